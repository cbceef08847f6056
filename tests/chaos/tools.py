"""Tools for agents under test: each first writes down that it runs, in the file that CHAOS_CALLS names.

One JSON line per execution: `sessionId`, `toolCallId`, `tool`, `attempt`, `what` (`began` or `stopped`), `at`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time

from pydantic_ai import RunContext

from worker.orchestrator import Turn
from worker.tools import repeatable


def _note(context: RunContext[Turn], what: str = "began") -> None:
    turn = context.deps
    line = {
        "sessionId": turn.session_id,
        "toolCallId": context.tool_call_id,
        "tool": context.tool_name,
        "attempt": turn.attempt,
        "what": what,
        "at": time.time(),
    }
    # One write of a whole line: several workers append to the file.
    file = os.open(os.environ["CHAOS_CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


async def _work(context: RunContext[Turn], seconds: float) -> str:
    _note(context)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        _note(context, "stopped")
        raise
    return f"{context.tool_name} {context.tool_call_id} ran"


async def once(context: RunContext[Turn], seconds: float) -> str:
    """Must not run twice."""
    return await _work(context, seconds)


@repeatable
async def again(context: RunContext[Turn], seconds: float) -> str:
    """May run twice."""
    return await _work(context, seconds)


def blocking(context: RunContext[Turn], seconds: float) -> str:
    """Must not run twice; runs on a thread."""
    _note(context)
    time.sleep(seconds)
    return f"{context.tool_name} {context.tool_call_id} ran"


async def crash(context: RunContext[Turn], seconds: float = 0.0) -> str:
    """Kills its worker; must not run twice."""
    _note(context)
    os.kill(os.getpid(), signal.SIGKILL)
    return "unreachable"


@repeatable
async def crash_again(context: RunContext[Turn], seconds: float = 0.0) -> str:
    """Kills its worker, each time."""
    _note(context)
    os.kill(os.getpid(), signal.SIGKILL)
    return "unreachable"


async def holds_the_loop(context: RunContext[Turn], seconds: float) -> str:
    """Does not await where it should."""
    _note(context)
    time.sleep(seconds)
    return f"{context.tool_name} {context.tool_call_id} ran"


TOOLS = (once, again, blocking, crash, crash_again, holds_the_loop)
