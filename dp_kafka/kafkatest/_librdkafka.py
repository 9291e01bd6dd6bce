"""Owns the C side of the embedded cluster: finding the librdkafka in use, its mock functions, their types.

The mock cluster is an experimental part of librdkafka's API. Everything that depends on its exact shape is
in this module, so that a change there is a change here and nowhere else.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_int16, c_int32, c_int64, c_size_t, c_void_p
from typing import Any

import confluent_kafka
from confluent_kafka import cimpl

from dp_kafka.errors import DpKafkaError

__all__ = ["EmbeddedClusterError", "Librdkafka", "load"]

_PRODUCER = 0  # rd_kafka_type_t: the mock needs a handle to live in, of either type
_ERRSTR_SIZE = 512

# name: (result, arguments). A function with a variable number of arguments lists the fixed ones only, which
# is what ctypes needs to know where the others go on platforms that pass them differently (arm64 macOS).
_REQUIRED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "rd_kafka_version": (c_int, ()),
    "rd_kafka_version_str": (c_char_p, ()),
    "rd_kafka_err2name": (c_char_p, (c_int,)),
    "rd_kafka_conf_new": (c_void_p, ()),
    "rd_kafka_conf_destroy": (None, (c_void_p,)),
    "rd_kafka_conf_set_log_cb": (None, (c_void_p, c_void_p)),
    "rd_kafka_new": (c_void_p, (c_int, c_void_p, c_char_p, c_size_t)),
    "rd_kafka_destroy": (None, (c_void_p,)),
    "rd_kafka_topic_partition_list_new": (c_void_p, (c_int,)),
    "rd_kafka_topic_partition_list_add": (c_void_p, (c_void_p, c_char_p, c_int32)),
    "rd_kafka_topic_partition_list_destroy": (None, (c_void_p,)),
    "rd_kafka_mock_cluster_new": (c_void_p, (c_void_p, c_int)),
    "rd_kafka_mock_cluster_destroy": (None, (c_void_p,)),
    "rd_kafka_mock_cluster_bootstraps": (c_char_p, (c_void_p,)),
    "rd_kafka_mock_topic_create": (c_int, (c_void_p, c_char_p, c_int, c_int)),
    "rd_kafka_mock_topic_set_error": (None, (c_void_p, c_char_p, c_int)),
    "rd_kafka_mock_broker_set_down": (c_int, (c_void_p, c_int32)),
    "rd_kafka_mock_broker_set_up": (c_int, (c_void_p, c_int32)),
    "rd_kafka_mock_broker_set_rtt": (c_int, (c_void_p, c_int32, c_int)),
    "rd_kafka_mock_broker_set_rack": (c_int, (c_void_p, c_int32, c_char_p)),
    "rd_kafka_mock_push_request_errors_array": (None, (c_void_p, c_int16, c_size_t, POINTER(c_int))),
    "rd_kafka_mock_broker_push_request_error_rtts": (c_int, (c_void_p, c_int32, c_int16, c_size_t)),
    "rd_kafka_mock_broker_error_stack_cnt": (c_int, (c_void_p, c_int32, c_int16, POINTER(c_size_t))),
    "rd_kafka_mock_clear_request_errors": (None, (c_void_p, c_int16)),
    "rd_kafka_mock_set_apiversion": (c_int, (c_void_p, c_int16, c_int16, c_int16)),
    "rd_kafka_mock_partition_set_leader": (c_int, (c_void_p, c_char_p, c_int32, c_int32)),
    "rd_kafka_mock_partition_set_follower": (c_int, (c_void_p, c_char_p, c_int32, c_int32)),
    "rd_kafka_mock_coordinator_set": (c_int, (c_void_p, c_char_p, c_char_p, c_int32)),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, (c_void_p, c_int32)),
    "rd_kafka_mock_start_request_tracking": (None, (c_void_p,)),
    "rd_kafka_mock_get_requests": (POINTER(c_void_p), (c_void_p, POINTER(c_size_t))),
    "rd_kafka_mock_clear_requests": (None, (c_void_p,)),
    "rd_kafka_mock_request_id": (c_int32, (c_void_p,)),
    "rd_kafka_mock_request_api_key": (c_int16, (c_void_p,)),
    "rd_kafka_mock_request_timestamp": (c_int64, (c_void_p,)),
    "rd_kafka_mock_request_destroy_array": (None, (POINTER(c_void_p), c_size_t)),
}

# name: (first librdkafka that has it, result, arguments). The class works without them.
_OPTIONAL: dict[str, tuple[str, Any, tuple[Any, ...]]] = {
    "rd_kafka_mock_cgrp_consumer_target_assignment_new": (
        "2.8.0",
        c_void_p,
        (POINTER(c_char_p), c_int, POINTER(c_void_p)),
    ),
    "rd_kafka_mock_cgrp_consumer_target_assignment_destroy": ("2.8.0", None, (c_void_p,)),
    "rd_kafka_mock_cgrp_consumer_target_assignment": ("2.8.0", None, (c_void_p, c_char_p, c_void_p)),
    "rd_kafka_mock_set_group_consumer_session_timeout_ms": ("2.8.0", None, (c_void_p, c_int)),
    "rd_kafka_mock_set_group_consumer_heartbeat_interval_ms": ("2.8.0", None, (c_void_p, c_int)),
    "rd_kafka_mock_topic_delete": ("2.15.0", c_int, (c_void_p, c_char_p)),
    "rd_kafka_mock_partition_delete_records": (
        "2.15.0",
        c_int,
        (c_void_p, c_char_p, c_int32, c_int64),
    ),
    "rd_kafka_mock_partition_push_request_errors": (
        "2.15.0",
        c_int,
        (c_void_p, c_char_p, c_int32, c_int16, c_size_t),
    ),
    "rd_kafka_mock_set_controller_id": ("2.16.0", None, (c_void_p, c_int32)),
}


class EmbeddedClusterError(DpKafkaError):
    """Raised when the embedded cluster cannot run here, cannot do what was asked, or is closed already."""


class Librdkafka:
    """The typed functions of one loaded librdkafka. Immutable once made, so any thread may use it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Raises EmbeddedClusterError when `library` lacks a function that the cluster cannot do without."""
        self._functions: dict[str, Callable[..., Any]] = {}
        missing = []
        for name, (restype, argtypes) in _REQUIRED.items():
            if not self._add(library, name, restype, argtypes):
                missing.append(name)
        if missing:
            raise _unavailable(f"its librdkafka does not have {', '.join(missing)}")
        for name, (_, restype, argtypes) in _OPTIONAL.items():
            self._add(library, name, restype, argtypes)
        self.version: str = self.function("rd_kafka_version_str")().decode()
        number: int = self.function("rd_kafka_version")()  # 0xMMmmrrpp
        self.version_info = (number >> 24, number >> 16 & 0xFF, number >> 8 & 0xFF)

    def _add(self, library: ctypes.CDLL, name: str, restype: Any, argtypes: tuple[Any, ...]) -> bool:
        try:
            function = library[name]  # a new object each time, so the types set here are nobody else's
        except AttributeError:
            return False
        function.restype = restype
        function.argtypes = argtypes
        self._functions[name] = function
        return True

    def has(self, name: str) -> bool:
        """Whether this librdkafka has the function `name`."""
        return name in self._functions

    def function(self, name: str) -> Callable[..., Any]:
        """The function `name`; raises EmbeddedClusterError with the version needed if there is none."""
        function = self._functions.get(name)
        if function is None:
            raise self._too_old(_OPTIONAL[name][0], name)
        return function

    def require(self, since: tuple[int, int, int], what: str) -> None:
        """Raises EmbeddedClusterError if this librdkafka is older than `since`, which `what` needs."""
        if self.version_info < since:
            raise self._too_old(".".join(map(str, since)), what)

    def _too_old(self, since: str, what: str) -> EmbeddedClusterError:
        return EmbeddedClusterError(
            f"{what} needs librdkafka {since} or newer, found {self.version}: "
            "install a newer confluent-kafka",
            log_data={"what": what, "needed": since, "found": self.version},
        )

    def error_name(self, code: int) -> str:
        """The name of a librdkafka error code, such as "_TRANSPORT"; "ERR_999?" when it has none."""
        name: bytes = self.function("rd_kafka_err2name")(code)
        return name.decode()

    def new_handle(self) -> int:
        """A client handle that talks to nobody and logs nowhere: what a mock cluster lives in."""
        conf = self.function("rd_kafka_conf_new")()
        self.function("rd_kafka_conf_set_log_cb")(conf, None)
        errstr = ctypes.create_string_buffer(_ERRSTR_SIZE)
        handle: int | None = self.function("rd_kafka_new")(_PRODUCER, conf, errstr, _ERRSTR_SIZE)
        if handle is None:
            self.function("rd_kafka_conf_destroy")(conf)  # only a successful rd_kafka_new takes it over
            raise EmbeddedClusterError(f"librdkafka made no handle: {errstr.value.decode(errors='replace')}")
        return handle


@functools.cache
def load() -> Librdkafka:
    """The librdkafka that confluent-kafka runs on; raises EmbeddedClusterError where it cannot be used.

    Looking a symbol up in the extension module also searches the libraries that it was linked with. So this
    finds the very copy that the clients use, be it the wheel's, the system's, or linked in statically.
    """
    try:
        return Librdkafka(ctypes.CDLL(cimpl.__file__))
    except OSError as exc:
        raise _unavailable(f"{cimpl.__file__} cannot be loaded with ctypes: {exc}") from exc


def _unavailable(reason: str) -> EmbeddedClusterError:
    where = f"{sys.platform} {platform.machine()}"
    version = confluent_kafka.__version__
    return EmbeddedClusterError(
        f"the embedded cluster cannot run on {where} with confluent-kafka {version}: {reason}. "
        "Use the wheel of confluent-kafka from PyPI, 2.6 or newer, or a real broker.",
        log_data={"platform": where, "confluent_kafka": version, "reason": reason},
    )
