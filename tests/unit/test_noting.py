"""Whose code runs is noted while it runs, and not while it waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from app.notes import Notes
from worker import noting
from worker.engine.tool_threads import ToolThreads


@pytest.fixture
def notes() -> Iterator[Notes]:
    made = Notes("host-1-noting")
    yield made
    made.close()


def test_of_two_sessions_the_one_is_noted_whose_task_runs(notes: Notes) -> None:
    seen: list[tuple[str, int]] = []

    async def child(name: str) -> None:
        seen.append((f"{name} child", notes.on_loop))

    async def work(name: str) -> str:
        seen.append((name, notes.on_loop))
        await asyncio.sleep(0)
        seen.append((f"{name} later", notes.on_loop))
        await asyncio.create_task(child(name))
        return name

    async def main() -> None:
        noting.install(asyncio.get_running_loop())
        tasks = [
            asyncio.create_task(work(name), context=noting.context_of(notes, row_id), name=name)
            for name, row_id in (("one", 1), ("two", 2))
        ]
        assert [await task for task in tasks] == ["one", "two"]
        assert [task.get_name() for task in tasks] == ["one", "two"]
        assert notes.on_loop == 0
        await asyncio.create_task(work("nobody's"))

    asyncio.run(main())

    assert dict(seen) == {
        **dict.fromkeys(("one", "one later", "one child"), 1),
        **dict.fromkeys(("two", "two later", "two child"), 2),
        **dict.fromkeys(("nobody's", "nobody's later", "nobody's child"), 0),
    }


def test_what_a_task_raises_and_its_cancellation_pass_through(notes: Notes) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("…")

    async def wait() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return f"cancelled by {notes.on_loop}"
        return ""

    async def main() -> None:
        noting.install(asyncio.get_running_loop())
        failing = asyncio.create_task(fail(), context=noting.context_of(notes, 1))
        waiting = asyncio.create_task(wait(), context=noting.context_of(notes, 2))
        with pytest.raises(ValueError, match="…"):
            await failing
        waiting.cancel()
        assert await waiting == "cancelled by 2"
        never = asyncio.create_task(wait(), context=noting.context_of(notes, 3))
        never.cancel()
        await asyncio.wait([never])
        assert never.cancelled()

    asyncio.run(main())

    assert notes.suspects() == []


@pytest.mark.parametrize("threads", ["the loop's", "the tools'"])
def test_a_function_on_a_thread_is_noted_until_it_returns(notes: Notes, threads: str) -> None:
    let_go = threading.Event()
    began = threading.Event()

    def block() -> list[int]:
        began.set()
        let_go.wait(20)
        return notes.suspects()

    async def session() -> Any:
        executor = None if threads == "the loop's" else ToolThreads()
        return await asyncio.get_running_loop().run_in_executor(executor, block)

    async def main() -> None:
        noting.install(asyncio.get_running_loop())
        tasks = [asyncio.create_task(session(), context=noting.context_of(notes, 5))]
        await asyncio.to_thread(began.wait, 20)
        assert notes.suspects() == [5]
        let_go.set()
        assert await asyncio.gather(*tasks) == [[5]]
        assert notes.suspects() == []

    asyncio.run(main())
