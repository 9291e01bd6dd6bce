"""Message headers and the trace id: the header's name, the id of the current context, new ids."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import operator
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeAlias

__all__ = [
    "TRACE_ID_HEADER",
    "HeaderValue",
    "Headers",
    "current_trace_id",
    "has_trace_id",
    "header_list",
    "new_trace_id",
    "received_headers",
    "use_trace_id",
]

#: The header that carries the trace id from service to service (the request id of ONS's dp-net).
TRACE_ID_HEADER = "request-id"

#: A header's value; text goes as UTF-8.
HeaderValue: TypeAlias = str | bytes | None
#: What the send calls take: a mapping, or pairs when a key stands more than once.
Headers: TypeAlias = Mapping[str, HeaderValue] | Iterable[tuple[str, HeaderValue]]


#: Called by C, which checks what it gets: see `received_headers`.
_HEADERS = operator.methodcaller("headers")


def received_headers(message: object) -> list[tuple[str, bytes | None]] | None:
    """The headers of a client's message; None if the client can't give them. Ask once for each message.

    Kafka has no rule for the keys of headers, so anybody's producer can write one that is not UTF-8. Then
    confluent_kafka gives a list that is not filled, together with an error: a call by the quick way of Python
    does not see the error, and to look into the list ends the process. This way sees it; but asked again the
    client gives the list alone.
    """
    try:
        return _HEADERS(message) or []
    except (SystemError, UnicodeDecodeError):
        return None


class CarriesTraceId(Protocol):
    """A message being handled: its trace id is looked up only when somebody asks for it."""

    def get_header(self, key: str) -> str:
        """The value of the first header called `key`, else an empty string."""
        ...


# Either a text, set by use_trace_id, or a message, in the context that it gives. Holding the message itself,
# its headers are decoded only when somebody asks.
_trace: contextvars.ContextVar[str | CarriesTraceId | None] = contextvars.ContextVar(
    "dp_kafka_trace", default=None
)


def current_trace_id() -> str | None:
    """The trace id of the current context: set by `use_trace_id`, or of the message being handled."""
    source = _trace.get()
    if source is None:
        # In a handler the message is looked up by its worker: to set a ContextVar for each message costs
        # more than the rest of handing it out.
        source = getattr(threading.current_thread(), "trace_source", None)
    if source is None or isinstance(source, str):
        return source
    return source.get_header(TRACE_ID_HEADER) or None


@contextlib.contextmanager
def use_trace_id(trace_id: str) -> Iterator[str]:
    """Make `trace_id` that of everything sent inside the `with` block, in this context only.

    Raises:
        TypeError: `trace_id` is not a non-empty str.
        ValueError: it is no text that UTF-8 can encode.
    """
    if not isinstance(trace_id, str) or not trace_id:
        raise TypeError(f"a trace id must be a non-empty str, but is {type(trace_id).__name__}")
    _check_text("a trace id", trace_id)
    token = _trace.set(trace_id)
    try:
        yield trace_id
    finally:
        _trace.reset(token)


class _TraceIds:
    """UUID-shaped ids: 74 random bits drawn once per 65,536 ids, then a count.

    uuid.uuid4() asks the kernel for every id and costs as much as sending the message; these cost a
    tenth. They are unique as long as two processes do not draw the same 74 bits.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        digits = os.urandom(10).hex()
        variant = "89ab"[int(digits[19], 16) & 3]
        # One tuple, so that a thread never pairs an old prefix with a new counter.
        self._source = (
            f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-{variant}{digits[15:18]}-",
            itertools.count(),
        )

    def new(self) -> str:
        prefix, counter = self._source
        count = next(counter)
        if count >= 0xFFFF:
            self.renew()
        return f"{prefix}{count:012x}"


_ids = _TraceIds()
# A forked child would go on with its parent's prefix and count, and repeat its ids.
os.register_at_fork(after_in_child=_ids.renew)

#: A new trace id; any thread, about 0.2 microseconds.
new_trace_id = _ids.new


def header_list(headers: Headers | None) -> list[tuple[str, HeaderValue]]:
    """Headers as a fresh list of pairs, checked.

    Raises:
        TypeError: a key is not a str or a value is not str, bytes or None; the value is not shown.
        ValueError: a key or value is text that UTF-8 can't encode, or a key contains a NUL character.
    """
    return [] if headers is None else checked_headers(headers)[0]


def checked_headers(headers: Headers) -> tuple[list[tuple[str, HeaderValue]], bool]:
    """As `header_list`, and whether one of them is the trace id."""
    # To ask whether a list is a Mapping costs as much as all the rest.
    if type(headers) is list:
        # A copy first: what is checked is what is sent, whatever another thread does to the list.
        pairs, traced = headers.copy(), False
        # This runs for each message: what nearly every header is goes by without a call.
        for pair in pairs:
            if type(pair) is not tuple or len(pair) != 2:
                break
            key, value = pair
            if type(key) is not str:
                break
            if key == TRACE_ID_HEADER:
                traced = True
            elif not key.isascii() or "\0" in key:
                break
            if type(value) is not bytes and (type(value) is not str or not value.isascii() or "\0" in value):
                break
        else:
            return pairs, traced
    elif isinstance(headers, Mapping):
        pairs = list(headers.items())
    else:
        pairs = list(headers)
    checked = [_checked_pair(pair) for pair in pairs]
    return checked, has_trace_id(checked)


def has_trace_id(headers: list[tuple[str, HeaderValue]]) -> bool:
    """Whether checked headers name a trace id."""
    return any(name == TRACE_ID_HEADER for name, _ in headers)


def _checked_pair(pair: object) -> tuple[str, HeaderValue]:
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
        raise TypeError("headers must be a mapping or (key, value) pairs")
    key, value = pair
    if not isinstance(key, str):
        raise TypeError(f"a header key must be str, but is {type(key).__name__}")
    # confluent_kafka crashes the process over a key that it can't encode, and cuts one at a NUL.
    _check_text("a header key", key)
    if "\0" in key:
        raise ValueError(f"a header key must not contain a NUL character, found {key!r}")
    if isinstance(value, str):
        _check_text(f"the value of header {key!r}", value)
        if "\0" in value:
            # It would cut the value there, too, but not bytes.
            return key, value.encode()
    elif value is not None and not isinstance(value, bytes):
        raise TypeError(
            f"the value of header {key!r} must be str, bytes or None, but is {type(value).__name__}"
        )
    return key, value


def _check_text(what: str, text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        reason = error.reason
    else:
        return
    # Outside the except clause: the error of the codec holds the text, and would stay as the context.
    raise ValueError(f"{what} is text that UTF-8 cannot encode: {reason}")
