"""Text of which each character is whole: halves of characters fit in no request, checkpoint or row."""

from __future__ import annotations

import json


def whole_text(text: str) -> str:
    """*text* with halves of characters joined or replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def whole(value: object) -> object:
    """*value*, which is JSON, with halves of characters joined or replaced."""
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, (list, dict)):
        text = json.dumps(value, ensure_ascii=False)
        mended = whole_text(text)
        return value if mended is text else json.loads(mended)
    return value
