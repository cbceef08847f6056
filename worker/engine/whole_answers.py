"""Answers that came in one piece although a stream was asked for."""

from __future__ import annotations

import json
from typing import Any

#: What may stand before anything else.
SPACE = b" \t\r\n\xef\xbb\xbf"
#: What is kept of a page that is no answer.
_MAX_CHARACTERS = 500


def not_a_stream(beginning: bytes) -> bool:
    """Whether a body that begins so is JSON or a page, whatever its server calls it."""
    return beginning.strip(SPACE)[:1] in (b"{", b"[", b"<")


def whole_answer(body: bytes) -> dict[str, Any]:
    """The object that *body* is; what is none is an error that quotes it."""
    text = body.strip(SPACE).decode("utf-8", "replace")
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, dict) and (answer.keys() & {"choices", "output", "error"}):
        return answer
    return {"error": answer if isinstance(answer, dict) else {"type": "no_answer", "message": text[:_MAX_CHARACTERS]}}
