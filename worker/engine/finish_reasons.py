"""Why a model stopped, whatever its provider calls that."""

from __future__ import annotations

import re
from typing import Any

from pydantic_ai.messages import ModelResponse

_REASONS = tuple(
    (reason, re.compile(pattern, re.IGNORECASE))
    for reason, pattern in (
        ("content_filter", r"filter|safety|sensitive|prohibited|blocklist|recitation|spii|toxic|refus|guardrail|risk"),
        ("error", r"error|fail|abort|cancel|malformed|insufficient|unavailable|overload|timeout|timed_?out|disconnect"),
        ("length", r"length|max_?(?:output_?)?tokens|token_limit|context_window|truncat"),
        ("tool_call", r"tool|function"),
    )
)


def reason_of(response: ModelResponse) -> str | None:
    """`stop`, `length`, `content_filter`, `tool_call` or `error`; None: its provider does not tell."""
    if response.finish_reason not in (None, "stop"):
        return response.finish_reason
    raw = _raw(response)
    known = next((reason for reason, pattern in _REASONS if pattern.search(raw)), None)
    return known or ("stop" if raw else response.finish_reason)


def broke_off(response: ModelResponse) -> dict[str, Any]:
    """What the provider says of an answer that it broke off."""
    return {"code": _raw(response) or "error", "message": "the stream ended with this reason to finish"}


def _raw(response: ModelResponse) -> str:
    return str((response.provider_details or {}).get("finish_reason") or "")
