"""Orchestrators for worker processes of tests: `ORCHESTRATOR=tests.sample_orchestrators:echo`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from worker.orchestrator import Turn


async def echo(turn: Turn) -> AsyncIterator[str]:
    """Says the message and how many exchanges came before it."""
    yield f"re: {turn.message} after {len(turn.history) // 2}"


async def harmful(turn: Turn) -> AsyncIterator[str]:
    """Does to its loop what the message says."""
    yield "half"
    if turn.message == "stop the loop":
        asyncio.get_running_loop().stop()
    elif turn.message == "interrupt":
        asyncio.get_running_loop().call_soon(_raise_interrupt)
    elif turn.message == "cancel everything":
        for task in asyncio.all_tasks():
            task.cancel()
    elif turn.message == "wait":
        await asyncio.Event().wait()
    yield " and more"


def _raise_interrupt() -> None:
    raise KeyboardInterrupt
