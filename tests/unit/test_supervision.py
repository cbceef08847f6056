"""What all sessions depend on is watched: the first failure is told, once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from worker.process.supervision import Supervision, WorkerBroken


def watched(play: Callable[[Supervision], Awaitable[Any]], **fields: Any) -> list[str]:
    """What was told while *play* ran, and after the supervision was closed."""
    told: list[WorkerBroken] = []

    async def run() -> None:
        supervision = Supervision(on_broken=told.append, **fields)
        await play(supervision)
        await supervision.close()

    asyncio.run(run())
    return [str(error) for error in told]


async def for_ever() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    raise OSError("why")


async def ends() -> None:
    return


@pytest.mark.parametrize(("work", "how"), [(fails, "has ended"), (ends, "has ended")])
def test_a_task_that_ends_is_told_with_its_cause_once(
    work: Callable[[], Any], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(supervision: Supervision) -> None:
        for name in ("flush", "watch"):
            supervision.start(name, work())
        await asyncio.sleep(0.01)

    assert watched(play) == [f"flush {how}"]
    own = [record for record in caplog.records if record.name == "worker.process.supervision"]
    assert [record.levelno for record in own] == [logging.CRITICAL]
    assert ("why" in caplog.text) == (work is fails)


def test_a_task_that_somebody_cancels_is_told() -> None:
    async def play(supervision: Supervision) -> None:
        supervision.start("flush", for_ever())
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.01)

    assert watched(play) == ["flush was cancelled"]


def test_an_errand_may_end_and_must_not_fail() -> None:
    async def play(supervision: Supervision) -> None:
        await supervision.errand("claims", ends())
        with pytest.raises(OSError, match="why"):
            await supervision.errand("claims", fails())
        await asyncio.sleep(0)

    assert watched(play) == ["claims failed"]


def test_a_task_that_is_at_work_for_too_long_has_stalled() -> None:
    now = [0.0]

    async def play(supervision: Supervision) -> None:
        with supervision.at_work("flush"):
            now[0] = 10.0
            supervision.look()
        now[0] = 100.0
        supervision.look()
        with supervision.at_work("watch"):
            now[0] = 110.5
            supervision.look()

    assert watched(play, stall_s=10.0, clock=lambda: now[0]) == ["watch has stalled"]


def test_closing_is_no_failure() -> None:
    async def play(supervision: Supervision) -> None:
        supervision.start("flush", for_ever())

    assert watched(play) == []
