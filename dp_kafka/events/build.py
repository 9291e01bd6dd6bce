"""Builds instances of a user's classes from dicts and lists, by the classes' type hints.

Dataclasses, NamedTuples, TypedDicts and classes that take their annotated fields as keyword arguments
(pydantic's or attrs', say) are built. Fields of the data that the class lacks are ignored; fields that the
data lacks get the class's default. A class is compiled once, at its first use.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

from dp_kafka.events.errors import Mismatch, UnmarshalError, found
from dp_kafka.events.fields import is_named_tuple, schema_name
from dp_kafka.events.scalars import SCALARS

__all__ = ["NamedDict", "build"]

_LISTS: Final[dict[Any, Callable[[Any], Any]]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    collections.abc.MutableSequence: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSet: set,
    collections.abc.Set: set,
}
_DICTS: Final = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


class NamedDict(dict[str, Any]):
    """A record that came out of a union, with the name of its type: what tells `A | B` apart."""

    __slots__ = ("name",)

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.name = name.rpartition(".")[2]


@dataclasses.dataclass(frozen=True, slots=True)
class _Hint:
    """A compiled type hint: how its values are built (None: as they are), and what null means to it.

    `empty` makes what null stands for where the hint has no None. The original writes "", [] and {} as null
    under a union that begins with null, so null in a `str`, a list or a dict is the empty one. Values of
    the class `exact` are taken as they are.
    """

    build: Callable[[Any], Any] | None
    takes_none: bool = False
    empty: Callable[[], Any] | None = None
    exact: type | None = None


# Of each field of a class: its key in the data, its keyword in the constructor, its hint, the class of
# value that needs no building, whether the constructor needs it, and whether it has a default.
_Field = tuple[str, str, _Hint, type | None, bool, bool]


def build(cls: Any, value: Any) -> Any:
    """`value` as an instance of `cls`: a class, or a parametrised one such as `list[Order]`.

    Raises Mismatch, with the path, when the value does not fit, and UnmarshalError when `cls` is no class.
    """
    if not isinstance(cls, type) and typing.get_origin(cls) is None:
        raise UnmarshalError(
            f"cls must be a class to build, such as a dataclass; found an instance of {type(cls).__name__}"
        )
    made = _hint(cls).build
    return value if made is None else made(value)


@functools.lru_cache(maxsize=1024)
def _hint(hint: Any) -> _Hint:  # noqa: PLR0911 - one for each type
    if hint in (Any, object) or isinstance(hint, typing.TypeVar):
        return _Hint(None, takes_none=True)
    if isinstance(hint, typing.NewType):
        return _hint(hint.__supertype__)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return _Hint(functools.partial(_literal, args), takes_none=None in args)
    if origin is typing.Union or isinstance(hint, types.UnionType):
        return _union(args)
    base = hint if origin is None else origin
    if base in _LISTS:
        return _list(base, args)
    if base in _DICTS:
        return _Hint(functools.partial(_dict, _hint(args[1]) if args else _ANY), empty=dict)
    if base in SCALARS:
        return _Hint(SCALARS[base], base is type(None), str if base is str else None, exact=base)
    if not isinstance(base, type):
        return _ANY
    if issubclass(base, enum.Enum):
        return _Hint(functools.partial(_enum, base))
    return _Hint(_Class(base).build)


_ABSENT: Final = object()
_ANY: Final = _Hint(None, takes_none=True)


def _apply(hint: _Hint, value: Any) -> Any:
    if value is None and not hint.takes_none:
        if hint.empty is not None:
            return hint.empty()
        raise Mismatch("found null, and the class's type hint has no None")
    return value if hint.build is None else hint.build(value)


def _literal(allowed: tuple[Any, ...], value: Any) -> Any:
    if value not in allowed:
        raise Mismatch(
            f"expected one of the literals {', '.join(map(repr, allowed))}, found another {found(value)}"
        )
    return value


def _enum(cls: type[enum.Enum], value: Any) -> Any:
    if isinstance(value, cls):
        return value
    try:
        return cls(value)
    except ValueError:
        if isinstance(value, str) and value in cls.__members__:
            return cls[value]
    raise Mismatch(f"expected a value or name of {cls.__name__}, found a {found(value)} that is neither")


def _list(base: Any, args: tuple[Any, ...]) -> _Hint:
    make: Callable[..., Any] = _LISTS[base]
    if base is tuple and args and not (len(args) == 2 and args[1] is ...):
        return _Hint(functools.partial(_fixed_tuple, tuple(map(_hint, args))))
    return _Hint(functools.partial(_items, make, _hint(args[0]) if args else _ANY), empty=make)


def _items(make: Callable[[Any], Any], hint: _Hint, value: Any) -> Any:
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise Mismatch(f"expected a list, found {found(value)}")
    result: list[Any] = []
    try:
        for item in value:
            result.append(_apply(hint, item))  # noqa: PERF401 - its length is the index of what does not fit
    except Mismatch as exc:
        exc.steps.append(f"[{len(result)}]")
        raise
    return result if make is list else make(result)


def _fixed_tuple(hints: tuple[_Hint, ...], value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) != len(hints):
        raise Mismatch(f"expected a list of {len(hints)} items, found {found(value)}")
    return tuple(_apply(hint, item) for hint, item in zip(hints, value, strict=True))


def _dict(hint: _Hint, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise Mismatch(f"expected a dict, found {found(value)}")
    result: dict[Any, Any] = {}
    try:
        for key, item in value.items():
            result[key] = _apply(hint, item)
    except Mismatch as exc:
        # A key is payload as much as a value, so the path tells its position.
        exc.steps.append(f"{{{len(result)}}}")
        raise
    return result


def _union(args: tuple[Any, ...]) -> _Hint:
    members = [arg for arg in args if arg is not type(None)]
    hints = [_hint(member) for member in members]
    nullable = len(members) < len(args)
    takes_none = nullable or any(hint.takes_none for hint in hints)

    def build_one(value: Any) -> Any:
        return None if value is None else _apply(hints[0], value)

    def build_any(value: Any) -> Any:
        if value is None and nullable:
            return None
        # An exact class first: int | float keeps 5 an int. Then the record's name, then the order of the
        # hint.
        wanted = value.name if isinstance(value, NamedDict) else None
        order = sorted(
            range(len(members)),
            key=lambda at: not (members[at] is type(value) or getattr(members[at], "__name__", "") == wanted),
        )
        for at in order:
            try:
                return _apply(hints[at], value)
            except Mismatch:
                continue
        names = " or ".join(getattr(member, "__name__", str(member)) for member in members)
        raise Mismatch(f"expected {names}, found {found(value)}")

    if len(members) == 1:
        return _Hint(build_one, takes_none=takes_none, exact=hints[0].exact)
    return _Hint(build_any, takes_none=takes_none)


class _Class:
    """Builds one class of records. Its hints, which may name it, are read at the first use."""

    def __init__(self, cls: type) -> None:
        self._cls: Callable[..., Any] = cls
        self._name = cls.__name__
        self._fields: list[_Field] | None = None

    def build(self, value: Any) -> Any:
        if type(value) is not dict and not isinstance(value, Mapping):
            raise Mismatch(f"expected a record for {self._name}, found {found(value)}")
        fields = self._fields
        if fields is None:
            fields = self._fields = _fields_of(self._cls)
        keywords: dict[str, Any] = {}
        key = ""
        try:
            for key, keyword, hint, exact, required, has_default in fields:
                item = value.get(key, _ABSENT)
                if type(item) is exact:
                    keywords[keyword] = item
                elif item is _ABSENT:
                    if required:
                        self._refuse_absent()
                elif item is not None or hint.takes_none or not has_default:
                    keywords[keyword] = _apply(hint, item)
        except Mismatch as exc:
            exc.steps.append(f".{key}")
            raise
        return self._construct(keywords)

    def _refuse_absent(self) -> None:
        raise Mismatch(f"{self._name} needs a value, and the data has none")

    def _construct(self, keywords: dict[str, Any]) -> Any:
        try:
            return self._cls(**keywords)
        except Exception as exc:  # noqa: BLE001 - user code; its message may show what it refused
            refused = type(exc).__name__
        raise Mismatch(f"{self._name} refused the values, with a {refused}")


def _fields_of(cls: Any) -> list[_Field]:
    try:
        hints = typing.get_type_hints(cls)
    except Exception as exc:  # noqa: BLE001 - hints are user code
        raise Mismatch(f"the type hints of {cls.__name__} cannot be resolved: {exc}") from None
    if dataclasses.is_dataclass(cls):
        return _dataclass_fields(cls, hints)
    if is_named_tuple(cls):
        defaults = cls._field_defaults
        return [_field(name, hints.get(name, Any), has_default=name in defaults) for name in cls._fields]
    if typing.is_typeddict(cls):
        required = cls.__required_keys__
        return [_field(name, hint, has_default=name not in required) for name, hint in hints.items()]
    shown = {
        name: hint
        for name, hint in hints.items()
        if not name.startswith("_") and not _is_class_var(cls, name)
    }
    return _other_fields(cls, shown)


def _dataclass_fields(cls: Any, hints: dict[str, Any]) -> list[_Field]:
    result = []
    for field in dataclasses.fields(cls):
        name = schema_name(field)
        has_default = (
            field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        )
        if name is not None and field.init:
            hint = _hint(hints[field.name])
            result.append((name, field.name, hint, hint.exact, not has_default, has_default))
    return result


def _other_fields(cls: Any, hints: dict[str, Any]) -> list[_Field]:
    """The annotated fields of the class, or else the parameters of its constructor, which knows its needs."""
    if not hints:
        try:
            signature = inspect.signature(cls)
            annotations = typing.get_type_hints(cls.__init__)
        except Exception:  # noqa: BLE001 - a class of C code has neither
            raise Mismatch(
                f"{cls.__name__} has no annotated fields, so it cannot be built from a record"
            ) from None
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        parameters = [parameter for parameter in signature.parameters.values() if parameter.kind in named]
        hints = {parameter.name: annotations.get(parameter.name, Any) for parameter in parameters}
    if not hints:
        raise Mismatch(f"{cls.__name__} has no annotated fields, so it cannot be built from a record")
    return [_field(name, hint, needed=False) for name, hint in hints.items()]


def _field(name: str, hint: Any, *, has_default: bool = False, needed: bool = True) -> _Field:
    compiled = _hint(hint)
    return name, name, compiled, compiled.exact, needed and not has_default, has_default


def _is_class_var(cls: type, name: str) -> bool:
    # get_type_hints() leaves ClassVar in; as text it stands where the module postpones its annotations.
    annotations = (inspect.get_annotations(base) for base in cls.__mro__)
    return any("ClassVar" in str(own[name]) for own in annotations if name in own)
