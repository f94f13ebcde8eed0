"""Tables of a TOML file as frozen dataclasses, and back: every key known, every value of its type."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from xglof.errors import TrainError, XglofError

T = TypeVar("T")


def read_table(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """A dataclass of the values of a table.

    Parameters
    ----------
    kind
        The dataclass; its annotations say what is taken.
    table
        Values by the names of its attributes; nested tables for attributes that are dataclasses.
    where
        Name of the table in messages; ``""`` for the whole file.

    Raises
    ------
    TrainError
        An unknown or missing key, or a value of another type.
    """
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind) if field.init}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise TrainError(_unknown(key, list(known), where))
    missing = [
        name
        for name, field in known.items()
        if name not in table and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise TrainError(f"{_place(where)} lacks {', '.join(missing)}")
    values = {
        key: _value(hints[key], value, f"{where}.{key}" if where else key) for key, value in table.items()
    }
    try:
        return kind(**values)
    except XglofError as error:
        raise error if isinstance(error, TrainError) else TrainError(f"{_place(where)}: {error}") from error


def _place(where: str) -> str:
    return f"[{where}]" if where else "the config"


def _unknown(key: str, known: list[str], where: str) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
    return f"{_place(where)} has no setting {key!r}; {hint}"


def _value(hint: Any, value: Any, where: str) -> Any:
    """A value of a TOML file as the type that an annotation asks for."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value, where)
    if origin is Literal:
        return _literal(arguments, value, where)
    if is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        return read_table(hint, _typed(value, Mapping, "a table", where), where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        table = _typed(value, Mapping, "a table", where)
        return {str(key): _value(arguments[1], item, f"{where}.{key}") for key, item in table.items()}
    return _scalar(hint, value, where)


def _tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    items = _typed(value, list | tuple, "a list", where)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_value(arguments[0], item, where) for item in items)
    if len(items) != len(arguments):
        raise TrainError(f"{where} has {len(items)} values; give {len(arguments)}")
    return tuple(_value(hint, item, where) for hint, item in zip(arguments, items, strict=True))


def _one_of(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in hints:
        return None
    problems = []
    for hint in hints:
        if hint is type(None):
            continue
        try:
            return _value(hint, value, where)
        except TrainError as error:
            problems.append(error)
    # a table that is wrong inside says more than "not a text"
    raise max(problems, key=lambda error: where + "]" in str(error) or where + "." in str(error))


def _literal(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value in choices and not isinstance(value, bool):
        return value
    names = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"give one of {', '.join(names)}"
    raise TrainError(f"{where} is {value!r}; {hint}")


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint not in _WORDS:  # a type that TOML can't say; Python may
        return _typed(value, hint, f"a {getattr(hint, '__name__', hint)}", where)
    if isinstance(value, bool) and hint is not bool:
        raise TrainError(f"{where} is {value!r}; expected {_WORDS[hint]}")
    return _typed(value, hint, _WORDS[hint], where)


def _typed(value: Any, kind: Any, words: str, where: str) -> Any:
    if not isinstance(value, kind):
        raise TrainError(f"{where} is {value!r}; expected {words}")
    return value


def write_tables(tables: Mapping[str, Any]) -> str:
    """A TOML file of plain values: texts, numbers, lists and tables of them.

    Tables in the first rank have a heading each, lists of tables one an entry; deeper ones are inline.
    """
    plain = {key: value for key, value in tables.items() if not _is_tables(value)}
    parts = ["".join(f"{_key(key)} = {_inline(value)}\n" for key, value in plain.items())]
    for name, value in tables.items():
        if _is_tables(value):
            heading = f"[{_key(name)}]" if isinstance(value, Mapping) else f"[[{_key(name)}]]"
            for table in [value] if isinstance(value, Mapping) else value:
                lines = "".join(f"{_key(key)} = {_inline(item)}\n" for key, item in table.items())
                parts.append(f"{heading}\n{lines}")
    return "\n".join(parts)


def _is_tables(value: Any) -> bool:
    listed = isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)
    return isinstance(value, Mapping) or listed


def _key(name: str) -> str:
    bare = name.replace("-", "").replace("_", "")
    return name if bare.isalnum() and bare.isascii() else _text(name)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    return repr(value)
