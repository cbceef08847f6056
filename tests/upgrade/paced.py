"""The orchestrator of both versions: an answer that takes seconds, so that many runs are in the air."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

PIECES, PAUSE_S = 12, 0.25


async def answer(turn: Any) -> AsyncIterator[str]:
    yield f"re {turn.message}:"
    for number in range(PIECES):
        await asyncio.sleep(PAUSE_S)
        yield f" {number}"


def whole(message: str) -> str:
    """What `answer` says to *message*."""
    return f"re {message}: " + " ".join(map(str, range(PIECES)))
