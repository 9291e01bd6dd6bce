"""The errors of events and schemas: each names the place, none shows a value."""

from __future__ import annotations

from dp_kafka.errors import ConfigError, MarshalError

__all__ = ["Mismatch", "SchemaError", "UnmarshalError", "found"]


class SchemaError(ConfigError):
    """Raised when a schema is not valid, or cannot read what another one writes; `field` is the path."""


class UnmarshalError(MarshalError):
    """Raised when bytes cannot be decoded, or do not fit the class that was asked for."""


class Mismatch(Exception):
    """A value that does not fit, on its way up: each container that it passes adds its step to the path."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.steps: list[str] = []

    def path(self, root: str = "event") -> str:
        """Where the value stands, as in `event.items[3].price`."""
        return root + "".join(reversed(self.steps))

    def text(self, root: str = "event") -> str:
        """The whole sentence: `event.items[3].price: expected long, found str`."""
        return f"{self.path(root)}: {self.problem}"


def found(value: object) -> str:
    """`value` as an error may show it: its type only, because a value is payload."""
    return "None" if value is None else type(value).__name__
