"""Opaque cursors: where a page ended, as text that clients hand back and must not build themselves."""

from __future__ import annotations

import base64
import binascii

from app.errors import Invalid

_MAX_DIGITS = 18


class Cursor:
    """A kind of cursor, which holds so many numbers.

    Args:
        kind: One letter: a cursor of another list is refused.
    """

    def __init__(self, kind: str, numbers: int) -> None:
        self._kind = kind
        self._numbers = numbers

    def encode(self, *numbers: int) -> str:
        text = self._kind + ".".join(str(number) for number in numbers)
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def decode(self, cursor: str, parameter: str = "cursor") -> tuple[int, ...]:
        """The numbers in a cursor that `encode` made.

        Raises:
            Invalid: it is not one of ours; `extra["parameter"]` is *parameter*.
        """
        try:
            text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        except (binascii.Error, ValueError):
            text = ""
        parts = text[1:].split(".")
        if (
            text[:1] != self._kind
            or len(parts) != self._numbers
            or not all(part.isdecimal() and len(part) <= _MAX_DIGITS for part in parts)
        ):
            raise Invalid(f"{parameter} is not a cursor that the server gave", parameter=parameter)
        return tuple(int(part) for part in parts)
