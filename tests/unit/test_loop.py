"""The loop of a worker goes on whatever the code of one session does to it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from worker import loop


def stop_the_loop() -> None:
    asyncio.get_running_loop().stop()


async def raise_in_a_task(error: BaseException) -> None:
    raise error


def begin(error: BaseException) -> None:
    task = asyncio.ensure_future(raise_in_a_task(error))
    task.add_done_callback(lambda task: task.exception())


def raise_it(error: BaseException) -> None:
    raise error


def leave_a_generator_that_raises() -> None:
    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise SystemExit(3)

    async def take_one() -> None:
        async for _ in generator():
            break

    task = asyncio.ensure_future(take_one())
    task.add_done_callback(lambda task: task.exception())


ATTEMPTS: dict[str, Callable[[], Any]] = {
    "stops the loop": stop_the_loop,
    "stops it twice": lambda: (stop_the_loop(), asyncio.get_running_loop().call_later(0.01, stop_the_loop)),
    "interrupt in a task": lambda: begin(KeyboardInterrupt()),
    "exit in a task": lambda: begin(SystemExit(3)),
    "exit in a callback": lambda: asyncio.get_running_loop().call_soon(sys.exit),
    "interrupt in a callback": lambda: asyncio.get_running_loop().call_soon(raise_it, KeyboardInterrupt()),
    "exit of a generator that is left": leave_a_generator_that_raises,
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_others_go_on_when_somebody_ends_the_loop(name: str, caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []

    async def other() -> None:
        for _ in range(5):
            await asyncio.sleep(0.01)
        ended.append("other")

    async def main() -> None:
        beside = asyncio.create_task(other())
        ATTEMPTS[name]()
        await beside
        ended.append("main")

    loop.run(main())

    assert ended == ["other", "main"]
    assert "tried to end the worker" in caplog.text


def test_what_the_worker_itself_raises_ends_it() -> None:
    async def main() -> None:
        raise OSError("no database")

    with pytest.raises(OSError, match="no database"):
        loop.run(main())


def test_ctrl_c_during_the_start_ends_it() -> None:
    before = signal.getsignal(signal.SIGINT)

    async def main() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(30)

    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run(main())
    finally:
        signal.signal(signal.SIGINT, before)
