"""Contract section 13: what an exception carries, and what is read off a whole chain of them."""

from __future__ import annotations

import inspect
import itertools
import pickle
import sys
from typing import Any

import pytest
from confluent_kafka import KafkaError

from dp_kafka import errors
from dp_kafka.errors import (
    AclError,
    BatchError,
    CACertsError,
    ChannelClosed,
    ClosedError,
    ConfigError,
    DeliveryError,
    DpKafkaError,
    HandlerError,
    KafkaClientError,
    commit_wanted,
    stack_trace,
    unwrap_log_data,
)

EVERY_CLASS = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, DpKafkaError)]


def made(cls: type[DpKafkaError], **more: Any) -> DpKafkaError:
    if cls is DeliveryError:
        return DeliveryError("text", topic="t", **more)
    if cls is KafkaClientError:
        return KafkaClientError("text", code=-1, name="_X", **more)
    if cls is BatchError:
        return BatchError(["m"], "text", **more)
    if cls is AclError:
        return AclError("text", results=["r"], **more)
    return cls("text", **more)


def chained(*links: BaseException) -> BaseException:
    """The first raised from the second, that one from the third, and so on."""
    for outer, inner in itertools.pairwise(links):
        outer.__cause__ = inner
    return links[0]


class Group(Exception):
    """An exception group as Python 3.11 has it; on 3.10 there are only backports, with the same attribute."""

    def __init__(self, message: str, members: list[BaseException]) -> None:
        super().__init__(message)
        self.exceptions = tuple(members)


@pytest.mark.parametrize("cls", EVERY_CLASS, ids=lambda cls: cls.__name__)
def test_13_1_every_error_has_text_log_data_and_one_sentence(cls: type[DpKafkaError]) -> None:
    error = made(cls, log_data={"a": 1})
    assert str(error) == "text"
    assert error.log_data["a"] == 1
    assert made(cls).log_data is not made(cls).log_data
    assert (cls.__doc__ or "").startswith(("Raised ", "Raised, "))


def test_13_1_every_error_is_public() -> None:
    assert {cls.__name__ for cls in EVERY_CLASS} <= set(errors.__all__)


@pytest.mark.parametrize("cls", EVERY_CLASS, ids=lambda cls: cls.__name__)
def test_13_1_every_error_survives_pickling(cls: type[DpKafkaError]) -> None:
    error = made(cls, log_data={"a": 1})
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is cls
    assert (str(twin), vars(twin)) == (str(error), vars(error))


def test_13_1_log_data_is_the_errors_own_copy() -> None:
    data = {"a": 1}
    error = DpKafkaError("x", log_data=data)
    data["a"] = 2
    assert error.log_data == {"a": 1}


def test_13_1_an_error_without_text() -> None:
    """contract 13.1, changed: Python's own empty text stands where the original wrote {nil error}."""
    assert str(DpKafkaError()) == ""
    assert DpKafkaError().log_data == {}


def test_13_1_the_cause_is_pythons_own() -> None:
    inner = ValueError("inner")
    assert chained(DpKafkaError("outer"), inner).__cause__ is inner


def test_13_1_kinds_of_errors() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(CACertsError, ConfigError)
    assert issubclass(ChannelClosed, ClosedError)
    assert ConfigError("x", field="topic").field == "topic"
    assert ConfigError("x").field is None


def test_13_1_what_librdkafka_says_is_translated() -> None:
    error = KafkaClientError.from_kafka_error(
        KafkaError(KafkaError._ALL_BROKERS_DOWN), log_data={"topic": "t"}
    )
    assert (error.name, error.code) == ("_ALL_BROKERS_DOWN", KafkaError._ALL_BROKERS_DOWN)
    assert (error.fatal, error.retriable, error.permanent) == (False, False, False)
    assert error.log_data == {"code": error.code, "name": error.name, "topic": "t"}
    assert str(error) == "_ALL_BROKERS_DOWN: Local: All broker connections are down"


@pytest.mark.parametrize(
    "code",
    [KafkaError._AUTHENTICATION, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.INVALID_SESSION_TIMEOUT],
)
def test_13_1_what_no_retry_can_cure_is_permanent(code: int) -> None:
    assert KafkaClientError.from_kafka_error(KafkaError(code)).permanent is True
    assert KafkaClientError.from_kafka_error(KafkaError(code), permanent=False).permanent is False


def test_13_1_fatal_is_permanent() -> None:
    assert KafkaClientError("x", code=1, name="ANY", fatal=True).permanent is True


def test_13_1_names_of_permanent_errors_are_librdkafkas() -> None:
    codes = [value for name, value in vars(KafkaError).items() if name.isupper() and isinstance(value, int)]
    assert {KafkaError(code).name() for code in codes} > errors.PERMANENT_ERROR_NAMES


def test_13_1_a_failed_delivery_says_where_and_why_and_not_what() -> None:
    error = DeliveryError.from_kafka_error(
        KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), topic="t", partition=3, has_key=True
    )
    assert str(error).startswith("delivery to topic 't', partition 3 failed: MSG_SIZE_TOO_LARGE: ")
    assert error.log_data == {
        "topic": "t",
        "partition": 3,
        "has_key": True,
        "code": KafkaError.MSG_SIZE_TOO_LARGE,
        "name": "MSG_SIZE_TOO_LARGE",
    }
    unsent = DeliveryError.from_kafka_error(KafkaError(KafkaError._MSG_TIMED_OUT), topic="t", partition=None)
    assert unsent.partition == -1
    assert "partition" not in str(unsent)


def test_13_2_log_data_is_collected_from_outermost_to_innermost() -> None:
    error = chained(
        DpKafkaError("a", log_data={"x": 1}), ValueError("b"), DpKafkaError("c", log_data={"y": 2})
    )
    assert unwrap_log_data(error) == {"x": 1, "y": 2}
    assert list(unwrap_log_data(error)) == ["x", "y"]


def test_13_2_any_exception_with_log_data_counts() -> None:
    class Foreign(Exception):
        log_data = {"x": 1}  # noqa: RUF012

    class Strange(Exception):
        log_data = "not a mapping"

    class Broken(Exception):
        @property
        def log_data(self) -> dict[str, Any]:
            raise RuntimeError("user code")

    assert unwrap_log_data(chained(Broken(), Strange(), Foreign())) == {"x": 1}


def fail_inner() -> None:
    raise DpKafkaError("inner", log_data={"x": 1})


def fail_while_handling(*, cut: bool) -> None:
    try:
        fail_inner()
    except DpKafkaError:
        outer = DpKafkaError("outer", log_data={"y": 2})
        if cut:
            raise outer from None
        raise outer  # noqa: B904 - the implicit context is what this is about


def test_13_2_the_context_counts_where_there_is_no_cause() -> None:
    with pytest.raises(DpKafkaError) as caught:
        fail_while_handling(cut=False)
    assert unwrap_log_data(caught.value) == {"y": 2, "x": 1}


def test_13_2_raise_from_none_cuts_the_chain() -> None:
    with pytest.raises(DpKafkaError) as caught:
        fail_while_handling(cut=True)
    assert unwrap_log_data(caught.value) == {"y": 2}


def test_13_2_members_of_a_group_count() -> None:
    group = Group(
        "g",
        [
            chained(DpKafkaError("a", log_data={"a": 1}), DpKafkaError("b", log_data={"b": 2})),
            DpKafkaError("c", log_data={"c": 3}),
        ],
    )
    group.__cause__ = DpKafkaError("d", log_data={"d": 4})
    merged = unwrap_log_data(chained(DpKafkaError("o", log_data={"o": 0}), group))
    assert list(merged.items()) == [("o", 0), ("a", 1), ("b", 2), ("c", 3), ("d", 4)]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_13_2_members_of_a_real_exception_group_count() -> None:
    group = ExceptionGroup("g", [HandlerError("a", commit=False, log_data={"a": 1}), ValueError()])  # type: ignore[name-defined]  # noqa: F821
    assert unwrap_log_data(group) == {"a": 1}
    assert commit_wanted(group) is False


def test_13_2_a_cycle_and_a_long_chain_end() -> None:
    one, two = DpKafkaError("1", log_data={"a": 1}), DpKafkaError("2", log_data={"b": 2})
    one.__cause__, two.__cause__ = two, one
    assert unwrap_log_data(one) == {"a": 1, "b": 2}
    assert commit_wanted(one) is True
    links = [DpKafkaError(log_data={"n": n}) for n in range(20_000)]
    assert unwrap_log_data(chained(*links)) == {"n": list(range(20_000))}


@pytest.mark.parametrize(
    ("values", "merged"),
    [
        ([1], 1),
        ([1, 1, 1], 1),
        ([1, 2], [1, 2]),
        ([2, 1, 2], [2, 1]),
        ([None, None], None),
        ([[1], [1]], [1]),
        ([[1], 1], [[1], 1]),
        ([{"k": 1}, {"k": 1}, {"k": 2}], [{"k": 1}, {"k": 2}]),
        ([1, True, 1.0], [1, True]),
    ],
)
def test_13_3_merge(values: list[Any], merged: Any) -> None:
    """contract 13.3: a new key is set, an equal value changes nothing, different ones become a list."""
    error = chained(*(DpKafkaError(log_data={"k": value}) for value in values))
    assert repr(unwrap_log_data(error)) == repr({"k": merged})


def test_13_3_values_that_cannot_be_compared_are_kept_apart() -> None:
    class Array:
        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

        __hash__ = None  # type: ignore[assignment]

    one, two = Array(), Array()
    merged = unwrap_log_data(chained(DpKafkaError(log_data={"k": one}), DpKafkaError(log_data={"k": two})))
    assert merged["k"][0] is one
    assert merged["k"][1] is two


def test_13_4_the_result_is_always_a_fresh_dict() -> None:
    error = DpKafkaError("x", log_data={"a": 1})
    unwrap_log_data(error)["a"] = 2
    assert error.log_data == {"a": 1}
    assert unwrap_log_data(ValueError()) == {}
    assert unwrap_log_data(ValueError()) is not unwrap_log_data(ValueError())


def fail_deep() -> None:
    raise ValueError("deep")


def fail_wrapped() -> None:
    try:
        fail_deep()
    except ValueError as error:
        raise DpKafkaError("outer") from error


def test_13_5_the_trace_is_that_of_the_deepest_error() -> None:
    """contract 13.5: file, function and line of each frame, the most recent call last."""
    with pytest.raises(DpKafkaError) as caught:
        fail_wrapped()
    frames = stack_trace(caught.value)
    assert [frame["function"] for frame in frames] == ["fail_wrapped", "fail_deep"]
    assert {frame["file"] for frame in frames} == {__file__}
    first = inspect.getsourcelines(fail_deep)[1]
    assert frames[-1]["line"] == first + 1


def test_13_5_errors_that_were_never_raised_are_passed_over() -> None:
    with pytest.raises(ValueError, match="deep") as caught:
        fail_deep()
    raised = caught.value
    raised.__cause__ = KeyError("never raised")
    assert stack_trace(chained(DpKafkaError("never raised"), raised))[-1]["function"] == "fail_deep"
    assert stack_trace(DpKafkaError("never raised")) == []


def test_13_6_the_sentinel_for_certificates_is_a_class() -> None:
    assert issubclass(CACertsError, ConfigError)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (ValueError("plain"), True),
        (HandlerError("x"), True),
        (HandlerError("x", commit=False), False),
        (chained(RuntimeError("wrapper"), HandlerError("x", commit=False)), False),
        (chained(HandlerError("o", commit=True), HandlerError("i", commit=False)), True),
        (chained(HandlerError("o", commit=False), HandlerError("i", commit=True)), False),
        (Group("g", [ValueError(), HandlerError("x", commit=False)]), False),
        (BatchError([1, 2]), True),
    ],
)
def test_the_outermost_answer_decides_about_the_commit(error: BaseException, wanted: bool) -> None:
    assert commit_wanted(error) is wanted


def test_only_a_bool_decides_about_the_commit() -> None:
    class Session(Exception):
        def commit(self) -> None:
            """A database's commit, say: no answer to our question."""

    class Falsy(Exception):
        commit = 0

    assert commit_wanted(chained(Session(), Falsy())) is True
    assert commit_wanted(chained(Session(), HandlerError(commit=False))) is False


def test_a_batch_error_keeps_the_failed_messages() -> None:
    failed = ["m1", "m2"]
    error = BatchError(failed)
    failed.clear()
    assert error.failed == ("m1", "m2")
    assert "m1" not in str(error)
