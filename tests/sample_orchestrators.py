"""Orchestrators for worker processes of tests: `ORCHESTRATOR=tests.sample_orchestrators:echo`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from worker.orchestrator import Turn


async def echo(turn: Turn) -> AsyncIterator[str]:
    """Says the message and how many exchanges came before it."""
    yield f"re: {turn.message} after {len(turn.history) // 2}"
