"""The tokens that a provider counted, as the whole numbers that a client expects."""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)


def token_counts(usage: Any) -> dict[str, Any] | None:
    """*usage* with counts that are numbers of tokens; None, with a line in the log: it can't be told."""
    counted = _whole(usage) if isinstance(usage, dict) else None
    if counted is None and usage is not None:
        logger.warning("usage that can't be is left out", extra={"usage": str(usage)[:500]})
    return counted


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
