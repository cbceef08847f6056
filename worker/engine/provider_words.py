"""What a provider says of a failure, in whatever shape: its codes, its words, how long to wait."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: The words that are kept of one failure.
MAX_WORDS = 2_000
_DEEPEST = 6
_CODES = frozenset({"code", "type", "status", "reason", "error_type", "error_code", "errorcode", "status_code"})
_TEXTS = frozenset(
    {"message", "msg", "detail", "details", "error", "errors", "error_msg", "status_msg", "title", "raw"}
)
_WAITS = {"retry_after": 1.0, "retryafter": 1.0, "retry_after_seconds": 1.0, "retrydelay": 1.0, "retry_after_ms": 0.001}
_TRY_AGAIN = re.compile(r"(?:try again|retry) (?:in|after) (\d+(?:\.\d+)?) ?(ms|milliseconds?|s|seconds?)?\b", re.I)


@dataclass(frozen=True, slots=True)
class Said:
    """Codes and words of a failure, in small letters."""

    codes: frozenset[str]
    text: str
    #: Seconds after which to ask again; None: not told.
    retry_after_s: float | None

    @property
    def status(self) -> int | None:
        """The HTTP status that stands among the codes, as gateways put it there."""
        return next((int(code) for code in sorted(self.codes) if re.fullmatch("[45][0-9][0-9]", code)), None)


def read(body: Any) -> Said:
    """What *body* says: a text, an object, a list; nested, or JSON within a text."""
    found = list(_walk(body, "", 0))
    texts = " ".join(value for kind, value in found if kind == "text")
    waits = [float(value) for kind, value in found if kind == "wait"]
    if not waits and (match := _TRY_AGAIN.search(texts)):
        waits = [float(match[1]) * (0.001 if (match[2] or "").lower().startswith("m") else 1.0)]
    codes = frozenset(value.lower() for kind, value in found if kind == "code")
    return Said(codes, texts.lower(), waits[0] if waits else None)


def error_in(body: dict[str, Any], *, named: bool = False) -> Any:
    """The error that an event or a whole answer is, or None; *named*: its stream calls it one."""
    if body.get("error"):
        return body["error"]
    if named or body.get("object") == "error" or body.get("type") == "error":
        return body
    status = body.get("base_resp")
    if isinstance(status, dict) and status.get("status_code"):
        return status
    is_chunk = "choices" in body or "usage" in body or str(body.get("object")).startswith("chat.completion")
    if not is_chunk and any(body.get(key) for key in ("message", "msg", "detail", "errors", "error_msg")):
        return body
    return None


def as_text(body: Any) -> str:
    """*body* as one line."""
    return json.dumps(body, ensure_ascii=False, default=str)


def without_keys(text: str, *keys: str) -> str:
    """*text*, cut to what is kept, without *keys* and whatever else looks like one."""
    for key in keys:
        if len(key) >= 4:
            text = text.replace(key, "[key]")
    for pattern in _KEYS:
        text = pattern.sub(r"\g<before>[key]", text)
    return text[:MAX_WORDS]


_KEYS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<before>\b(?:bearer|basic)\s+)[\w.~+/=-]{6,}",
        r"(?P<before>\b(?:api[ _-]?key|x-api-key|apikey|access[ _-]?token|token|secret|password|authorization|key)"
        r"(?:\W{1,3}|\s+(?:provided|is|was|value)\W{1,3}))(?=[\w.*~+/-]*[\d*])[\w.*~+/=-]{8,}",
        r"(?P<before>)\b(?:sk|pk|rk|gsk|xai|hf|r8|nvapi|pplx|csk|fw|tgp|AIza)[_-]?(?=[\w*-]*[\d*])[\w*-]{12,}",
        r"(?P<before>://)[^\s/@]+(?=@)",
        # Whatever is so long and mixed is no word. Ids of requests are shorter.
        r"(?P<before>)\b(?=[\w-]*\d)(?=[\w-]*[a-z])[\w-]{41,}",
    )
)


def _walk(value: Any, key: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _DEEPEST or value is None or isinstance(value, bool):
        return
    if isinstance(value, dict):
        for name, each in list(value.items())[:50]:
            yield from _walk(each, str(name).lower(), depth + 1)
    elif isinstance(value, list):
        for each in value[:20]:
            yield from _walk(each, key, depth + 1)
    elif isinstance(value, str) and value.lstrip()[:1] in ("{", "[") and (inner := _json(value)) is not None:
        yield from _walk(inner, key, depth + 1)
    elif key in _WAITS:
        if match := re.match(r"\d+(\.\d+)?", str(value)):
            yield "wait", str(float(match[0]) * _WAITS[key])
    elif key in _CODES:
        yield "code", str(value)
        if isinstance(value, str) and " " in value:
            yield "text", value
    elif isinstance(value, str) and (key in _TEXTS or depth == 0):
        yield "text", value[:MAX_WORDS]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
