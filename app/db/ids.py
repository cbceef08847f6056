"""Ids of what is stored."""

from __future__ import annotations

import secrets
import time
import uuid


def new_id(at_ms: int | None = None) -> str:
    """A UUID of version 7 (RFC 9562): 48 bits of time, 74 that nobody can guess.

    What belongs together in time stands together in every index: appends touch few pages of it, and so does pruning.

    Args:
        at_ms: Milliseconds since 1970; None: now.
    """
    # Python has `uuid.uuid7` from 3.14 on.
    at_ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    value = at_ms << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))
