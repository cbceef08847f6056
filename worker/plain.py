"""Anybody's values as plain data: exact built-in types, within bounds, and no code of theirs runs on the way.

Orchestrators and tools hand over what they like: a subclass of `str` whose comparison raises, a list that contains
itself, an iterator without an end. Whoever takes what is made here sees none of that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, NamedTuple, TypeGuard, TypeVar

T = TypeVar("T")

#: What is nested deeper is no JSON for us; a value that contains itself is.
DEEPEST = 10_000
#: Some 24 days, 2 billion tokens: what an INT holds.
MOST = 2**31 - 1

_END = object()
_NO_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})


class Json(NamedTuple):
    """A value as JSON text."""

    text: str
    #: How many lists and objects stand within each other.
    depth: int
    #: False: a number in it is none, which Python writes as NaN and few others read.
    finite: bool


class NotPlain(ValueError):
    """No JSON can say it."""


class TooLarge(ValueError):
    """It is larger than allowed."""


def is_a(value: object, kind: type[T]) -> TypeGuard[T]:
    """`isinstance` that *value* can't deceive: a property `__class__` is its own code."""
    return issubclass(type(value), kind)


def text_of(value: object) -> str | None:
    """*value* as an exact `str`; None: it is no text."""
    return str.__str__(value) if is_a(value, str) else None


def number_of(value: object) -> int | None:
    """*value* as an `int` from 0 to `MOST`, clipped; None: it is no number."""
    if is_a(value, int):
        return min(max(int.__int__(value), 0), MOST)
    if is_a(value, float):
        number = float.__float__(value)
        return int(min(max(number, 0.0), float(MOST))) if number == number else None
    return None


def to_json(value: object, limit: int, *, ascii_only: bool = False) -> Json:
    """*value* as JSON text of at most *limit* bytes.

    Made in pieces, so that a thread that makes a large one lets others run.

    Raises:
        NotPlain: it holds what no JSON can say, contains itself, or was changed meanwhile.
        TooLarge: the text is longer.
    """
    try:
        return _joined(value, limit, encode_basestring_ascii if ascii_only else encode_basestring)
    except RuntimeError as error:
        # Another thread adds to it.
        raise NotPlain("it changes while it is read") from error


def _joined(value: object, limit: int, encode: Any) -> Json:
    pieces: list[str] = []
    opened: list[tuple[Iterator[Any], str]] = [(iter((value,)), "")]
    size = deepest = 0
    comma, finite = "", True
    while opened:
        items, closing = opened[-1]
        item: Any = next(items, _END)
        if item is _END:
            opened.pop()
            piece, comma = closing, ","
        else:
            piece = comma
            if closing == "}":
                key, item = item
                piece += f"{encode(_key(key, limit - size))}:"
            scalar = _scalar(item, limit - size, encode)
            if scalar is None:
                inner, opening, end = _container(item)
                opened.append((inner, end))
                piece, comma = piece + opening, ""
                deepest = max(deepest, len(opened) - 1)
                if deepest > DEEPEST:
                    raise NotPlain("it is nested too deep, or contains itself")
            else:
                finite = finite and scalar not in _NO_NUMBERS
                piece, comma = piece + scalar, ","
        pieces.append(piece)
        size += len(piece) if piece.isascii() else len(piece.encode("utf-8", "surrogatepass"))
        if size > limit:
            raise TooLarge(f"larger than {limit} bytes")
    return Json("".join(pieces), deepest, finite)


def _scalar(item: object, room: int, encode: Any) -> str | None:
    if item is None:
        return "null"
    if item is True:
        return "true"
    if item is False:
        return "false"
    if is_a(item, str):
        if str.__len__(item) > room:
            # Looked at first: encoding it would take what it takes.
            raise TooLarge("a text in it is larger than allowed")
        return str(encode(str.__str__(item)))
    if is_a(item, int):
        try:
            return int.__repr__(item)
        except ValueError as error:
            raise NotPlain("a number in it has thousands of digits") from error
    if is_a(item, float):
        return json.dumps(float.__float__(item))
    return None


def _key(key: object, room: int) -> str:
    """What `json` makes of a key."""
    if is_a(key, str) and str.__len__(key) <= room:
        return str.__str__(key)
    text = _scalar(key, room, encode_basestring)
    if text is None:
        raise NotPlain(f"a key in it is of type {type(key).__name__}")
    return text


def _container(item: object) -> tuple[Iterator[Any], str, str]:
    if is_a(item, dict):
        return iter(dict.items(item)), "{", "}"
    if is_a(item, list):
        return list.__iter__(item), "[", "]"
    if is_a(item, tuple):
        return tuple.__iter__(item), "[", "]"
    raise NotPlain(f"it holds a value of type {type(item).__name__}")
