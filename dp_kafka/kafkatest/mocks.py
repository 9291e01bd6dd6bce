"""Mocks of the public classes that know their signatures, for tests of code that only passes them on."""

from __future__ import annotations

from typing import Any

from dp_kafka.consumer.group import ConsumerGroup
from dp_kafka.consumer.message import Message
from dp_kafka.producer.producer import Producer

__all__ = ["consumer_group_mock", "message_mock", "producer_mock"]


def consumer_group_mock(delegate: ConsumerGroup | None = None) -> Any:
    """A `unittest.mock` object that has what a ConsumerGroup has, and nothing else.

    A name that there is not, a wrong number of arguments or a wrong keyword fails as it would on the real
    class. Set `return_value` or `side_effect` of a method for what it is to do. It records all calls
    (as in `mock.start.assert_called_once_with(…)`). `isinstance(mock, ConsumerGroup)` holds.

    Args:
        delegate: carries out what is called, and has the properties; as `kafkatest.Consumer` could. None:
            methods give mocks.

    Raises:
        TypeError: the delegate is no ConsumerGroup.
    """
    return _mock_of(ConsumerGroup, delegate)


def producer_mock(delegate: Producer | None = None) -> Any:
    """A mock of a Producer, as `consumer_group_mock` makes one of a ConsumerGroup.

    Args:
        delegate: carries out what is called; as `kafkatest.Producer` could. None: methods give mocks.

    Raises:
        TypeError: the delegate is no Producer.
    """
    return _mock_of(Producer, delegate)


def message_mock(delegate: Message | None = None) -> Any:
    """A mock of a Message, as `consumer_group_mock` makes one of a ConsumerGroup.

    Args:
        delegate: carries out what is called; as `kafkatest.new_message(…)` could. None: methods give mocks.

    Raises:
        TypeError: the delegate is no Message.
    """
    return _mock_of(Message, delegate)


def _mock_of(cls: type, delegate: Any) -> Any:
    if delegate is not None and not isinstance(delegate, cls):
        raise TypeError(f"the delegate must be a {cls.__name__}, but is {type(delegate).__name__}")
    from unittest import mock  # which takes longer to import than the rest of the test kit

    made = mock.create_autospec(cls, instance=True, spec_set=True)
    if hasattr(cls, "__enter__"):
        made.__enter__.return_value = made
        made.__exit__.return_value = None
    if delegate is None:
        return made
    for name in dir(cls):
        if name.startswith("_") and name != "__exit__":
            continue
        member = getattr(cls, name)
        if callable(member):
            getattr(made, name).side_effect = getattr(delegate, name)
        else:
            # Of the mock's own class, which no other mock has.
            setattr(type(made), name, _delegated(delegate, name))
    return made


def _delegated(delegate: Any, name: str) -> property:
    return property(
        lambda _self: getattr(delegate, name), lambda _self, value: setattr(delegate, name, value)
    )
