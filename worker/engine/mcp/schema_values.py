"""Keywords of JSON schemas that take plain values, and what each takes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

from worker.engine.whole_text import whole

_TYPES = {name: name for name in ("object", "array", "string", "integer", "number", "boolean", "null")} | {
    "int": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "str": "string",
    "text": "string",
    "list": "array",
    "dict": "object",
}


class Wrong(Exception):
    """The value of a keyword is not what the keyword takes."""


def checked(keyword: str, value: object) -> object:
    """*value* as *keyword* takes it; of a keyword that is not known, as it is.

    Raises:
        Wrong: it does not take it.
    """
    return _KEYWORDS.get(keyword, _any)(value)


def _any(value: object) -> object:
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        raise Wrong from None
    return whole(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong
    return str(whole(value))


def _pattern(value: object) -> str:
    text = _text(value)
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        raise Wrong from None
    return text


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong
    return value


def _number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Wrong
    return value


def _positive(value: object) -> int | float:
    number = _number(value)
    if number <= 0:
        raise Wrong
    return number


def _count(value: object) -> int:
    number = _number(value)
    if number < 0 or number != int(number):
        raise Wrong
    return int(number)


def _values(value: object) -> list[object]:
    if not isinstance(value, list) or not value:
        raise Wrong
    found: list[object] = []
    for each in value:
        # `1` and `true` are the same to Python, and not to JSON.
        if (plain := _any(each)) not in found or isinstance(plain, (bool, int, float)):
            found.append(plain)
    return found


def _names(value: object) -> list[str]:
    if not isinstance(value, list):
        raise Wrong
    return list(dict.fromkeys(str(whole(name)) for name in value if isinstance(name, str)))


def _type(value: object) -> str | list[str]:
    given = value if isinstance(value, list) else [value]
    kinds = [_TYPES.get(kind.lower()) for kind in given if isinstance(kind, str)]
    known = list(dict.fromkeys(kind for kind in kinds if kind is not None))
    if not known:
        raise Wrong
    return known[0] if len(known) == 1 else known


def _names_by_name(value: object) -> dict[str, list[str]]:
    if not isinstance(value, dict):
        raise Wrong
    return {str(whole(name)): _names(each) for name, each in value.items()}


_KEYWORDS: dict[str, Callable[[object], object]] = {
    "type": _type,
    "enum": _values,
    "examples": _values,
    "required": _names,
    "pattern": _pattern,
    "multipleOf": _positive,
    "dependentRequired": _names_by_name,
    **dict.fromkeys(("title", "description", "format", "contentEncoding", "contentMediaType"), _text),
    **dict.fromkeys(("uniqueItems", "deprecated", "readOnly", "writeOnly", "nullable"), _flag),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _count),
    **dict.fromkeys(("minContains", "maxContains"), _count),
}
