"""A loop that is blocked is told, with whose code is at it; for too long, and the worker ends."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from app.notes import LOOP, Notes
from worker.process.watchdog import NAMED_S, Watchdog


def slow_tool(began: threading.Event, until: threading.Event) -> None:
    began.set()
    until.wait(20)


class Looked:
    """A watchdog that looks when the test says so, at a time that the test says."""

    def __init__(self, give_up: Callable[[], Any] | None = None) -> None:
        self.now = 100.0
        self.notes = Notes("host-1-watchdog")
        self.dog = Watchdog(
            self.notes,
            session_of=lambda row_id: f"session {row_id}",
            limit_s=10.0,
            give_up=give_up,
            clock=lambda: self.now,
        )

    def look(self, after_s: float = 1.0) -> None:
        self.now += after_s
        self.dog.look()


def while_blocked(work: Callable[[Looked], None], give_up: Callable[[], Any] | None = None) -> None:
    """Do *work* on a thread while a tool blocks the loop."""
    began, done = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    async def main() -> None:
        looked = Looked(give_up)
        looked.notes.numbers[LOOP] = 7

        def watch() -> None:
            try:
                assert began.wait(20)
                looked.look()
                work(looked)
            except BaseException as error:  # noqa: BLE001 - the test raises it
                errors.append(error)
            finally:
                done.set()

        threading.Thread(target=watch).start()
        slow_tool(began, done)
        await asyncio.sleep(0)
        looked.look()
        looked.notes.close()

    asyncio.run(main())
    for error in errors:
        raise error


def test_a_tool_that_blocks_the_loop_for_seconds_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    def work(looked: Looked) -> None:
        for _ in range(4):
            looked.look()

    with caplog.at_level(logging.WARNING, "worker.process.watchdog"):
        while_blocked(work)

    [record] = caplog.records
    assert (record.message, vars(record)["session_id"]) == ("the loop is blocked", "session 7")
    assert vars(record)["seconds"] == NAMED_S
    assert "slow_tool" in vars(record)["at"]


def test_a_worker_whose_loop_is_blocked_for_too_long_gives_up() -> None:
    given_up: list[float] = []

    def work(looked: Looked) -> None:
        for _ in range(9):
            looked.look()
        assert given_up == []
        looked.look()
        assert given_up == [True]

    while_blocked(work, lambda: given_up.append(True))


def test_the_time_in_which_the_machine_stood_still_is_not_the_loops() -> None:
    given_up: list[float] = []

    while_blocked(lambda looked: looked.look(after_s=3600), lambda: given_up.append(True))

    assert given_up == []


def test_a_loop_that_goes_on_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        looked = Looked()
        for _ in range(20):
            looked.look()
            await asyncio.sleep(0)
        looked.notes.close()

    asyncio.run(main())

    assert caplog.records == []


def test_the_watchdog_looks_by_itself_until_it_is_stopped() -> None:
    gave_up = threading.Event()

    async def main() -> None:
        notes = Notes("host-1-watchdog")
        dog = Watchdog(notes, session_of=lambda _: None, limit_s=0.1, give_up=gave_up.set)
        dog.start()
        deadline = time.monotonic() + 20
        while not gave_up.is_set() and time.monotonic() < deadline:
            gave_up.wait(0.05)  # blocks the loop
        assert gave_up.is_set()
        await asyncio.to_thread(dog.stop)
        notes.close()

    asyncio.run(main())
