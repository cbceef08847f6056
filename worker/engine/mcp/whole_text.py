"""Text of which each character is whole: halves of characters fit in no request, checkpoint or row."""

from __future__ import annotations

import json


def whole(value: object) -> object:
    """*value*, which is JSON, with halves of characters joined or replaced."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _has_half(value) else value
    if isinstance(value, (list, dict)) and _has_half(text := json.dumps(value, ensure_ascii=False)):
        return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return value


def _has_half(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
