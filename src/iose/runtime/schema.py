# SPDX-License-Identifier: Apache-2.0
"""Strict reading of a settings table into dataclasses: an unknown key is an error, with a guess.

The dataclass is the schema: its fields are the keys, its types what they hold, its defaults what
is left out. It knows nothing of what the settings mean.
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from difflib import get_close_matches
from typing import (
    Annotated,
    Final,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from iose.runtime.errors import ConfigurationError

T = TypeVar("T")
_KINDS: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True, slots=True)
class OneOf:
    """Annotation of a table that one of its keys reads into one of several dataclasses.

    Attributes:
        key: The key that says which.
        kinds: Its values, and what each stands for.
    """

    key: str
    kinds: Mapping[str, type]

    def choose(self, table: Mapping[str, object], where: str) -> type:
        """Return the dataclass for a table; its keys are not looked at but to give a hint.

        Raises:
            ConfigurationError: The table does not say, or says something unknown, or has a key
                of another one.
        """
        path = _path(where, self.key)
        choices = ", ".join(map(repr, self.kinds))
        if self.key not in table:
            raise ConfigurationError(
                f"the setting {path!r} is missing", hint=f"it is one of {choices}"
            )
        said = table[self.key]
        if not isinstance(said, str) or said not in self.kinds:
            near = get_close_matches(str(said), self.kinds, n=1)
            hint = f"did you mean {near[0]!r}?" if near else None
            raise ConfigurationError(f"the setting {path!r} must be one of {choices}", hint=hint)
        for key in table:
            others = [name for name, kind in self.kinds.items() if _has(kind, key)]
            if others and said not in others:
                _refuse_foreign_key(_path(where, key), said, others, self.kinds[said])
        return self.kinds[said]


def read_table(schema: type[T], table: Mapping[str, object], *, where: str = "") -> T:
    """Return the settings of a table.

    Args:
        schema: A dataclass.
        table: What was read from the file.
        where: Name of the table in messages, "" at the top.

    Raises:
        ConfigurationError: A key is unknown or missing, or a value is of the wrong kind. The
            message names the key, the hint the nearest known one.
    """
    known = {field.name: field for field in fields(schema)}  # type: ignore[arg-type]  # a dataclass
    for key in table:
        if key not in known:
            _refuse_key(_path(where, key), [_path(where, name) for name in known])
    hints = get_type_hints(schema, include_extras=True)
    values = {
        name: _read(hints[name], table[name], _path(where, name))
        for name, field in known.items()
        if name in table or _is_required(field, _path(where, name))
    }
    return schema(**values)


def _is_required(field: "Field[object]", path: str) -> bool:
    if field.default is MISSING and field.default_factory is MISSING:
        raise ConfigurationError(f"the setting {path!r} is missing")
    return False


def _refuse_key(path: str, known: list[str]) -> None:
    near = get_close_matches(path, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    raise ConfigurationError(f"unknown setting {path!r}", hint=hint)


def _has(kind: type, key: str) -> bool:
    return any(field.name == key for field in fields(kind))


def _refuse_foreign_key(path: str, said: str, others: list[str], kind: type) -> None:
    key = path.rpartition(".")[2]
    near = get_close_matches(key, [field.name for field in fields(kind)], n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigurationError(
        f"the setting {path!r} is none of type {said!r}",
        hint=f"{guess}{key!r} is a setting of type {' and '.join(map(repr, others))}",
    )


def _read(kind: object, value: object, path: str) -> object:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        table = _table(value, path)
        return read_table(parts[1].choose(table, path), table, where=path)
    if isinstance(kind, type) and is_dataclass(kind):
        return read_table(kind, _table(value, path), where=path)
    if origin in (Union, types.UnionType):
        return _read(next(part for part in parts if part is not type(None)), value, path)
    if origin is tuple:
        return _read_list(parts[0], value, path)
    if origin is dict:
        items = _table(value, path).items()
        return {key: _read(parts[1], item, _path(path, key)) for key, item in items}
    return _read_plain(kind, value, path)


def _read_list(kind: object, value: object, path: str) -> object:
    if not isinstance(value, list):
        is_table = isinstance(value, dict) and kind not in (str, int)
        hint = f"write [[{path}]], in two brackets, before each" if is_table else None
        raise ConfigurationError(f"the setting {path!r} must be a list", hint=hint)
    if get_origin(kind) is Annotated:  # tables of many keys: say which one is wrong
        return tuple(_read(kind, item, f"{path}[{number}]") for number, item in enumerate(value, 1))
    return tuple(_read(kind, item, path) for item in value)


def _read_plain(kind: object, value: object, path: str) -> object:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            choices = ", ".join(map(repr, get_args(kind)))
            raise ConfigurationError(f"the setting {path!r} must be one of {choices}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        expected = _KINDS.get(kind, str(kind)) if isinstance(kind, type) else str(kind)
        raise ConfigurationError(f"the setting {path!r} must be {expected}")
    return value


def _table(value: object, path: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"the setting {path!r} must be a table")
    return value


def _path(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
