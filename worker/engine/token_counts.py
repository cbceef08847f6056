"""The tokens that a provider counted, as the whole numbers that a client expects."""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)

#: A client counts nothing where one of two is missing.
_PAIRS = (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens"))


def mend_usage(holder: dict[str, Any]) -> bool:
    """Put the `usage` of *holder* right, or leave it out with a line in the log; whether anything was."""
    usage = holder.get("usage")
    if usage is None:
        return False
    counted = _whole(usage) if isinstance(usage, dict) else None
    if counted is not None:
        for pair in _PAIRS:
            if any(name in counted for name in pair):
                counted = dict.fromkeys(pair, 0) | counted
    else:
        logger.warning("usage that can't be is left out", extra={"usage": str(usage)[:500]})
    holder["usage"] = counted
    # 3.0 is 3, but not to a client.
    return repr(counted) != repr(usage)


def _whole(usage: dict[str, Any]) -> dict[str, Any] | None:
    """*usage* and what is within it; None: a count is no number, or less than nothing."""
    counted: dict[str, Any] = {}
    for name, value in usage.items():
        if isinstance(value, dict):
            value = _whole(value)
            if value is None:
                return None
        elif name.endswith("_tokens"):
            try:
                value = int(float(value)) if value is not None else 0
            except (TypeError, ValueError, OverflowError):
                return None
            if value < 0:
                return None
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        counted[name] = value
    return counted
