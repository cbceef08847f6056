"""Orchestrators for worker processes of tests: `ORCHESTRATOR=tests.sample_orchestrators:echo`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

from worker.orchestrator import Checkpoint, Turn


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


async def deadly(turn: Turn) -> AsyncIterator[Any]:
    """Kills its process or blocks its loop, as the message says, in each attempt.

    `DEADLY_DONE` names a file that is there once `innocent` may go on.
    """
    if turn.checkpoint is None:
        yield "half, "
        yield Checkpoint("half")
    if turn.message == "exit":
        os._exit(3)
    elif turn.message == "exit on a thread":
        await asyncio.to_thread(os._exit, 3)
    elif turn.message == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif turn.message == "block":
        time.sleep(60)
    while not os.path.exists(os.environ["DEADLY_DONE"]):
        await asyncio.sleep(0.05)
    yield "whole"
