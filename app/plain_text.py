"""Text of others as a terminal may show it."""

from __future__ import annotations

#: Control characters but tab and line feed, those of Unicode's first block as well: a terminal obeys them. What changes
#: the direction of text makes one line look like another.
_OBEYED = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SHOWN = {code: "\ufffd" for code in _OBEYED if chr(code) not in "\t\n"}


def plain(text: object) -> str:
    """*text* without what a terminal would obey, such as a title, the clipboard, or clearing the screen."""
    return str(text).translate(_SHOWN)
