"""The event writer gathers, commits and tells: with a database that keeps a record and can be held or broken."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.broker.heads import Head
from app.errors import DatabaseUnavailable, Fenced
from app.events import Delta, Done, Event, Thinking, ToolCall
from app.sessions.claims import Claim
from app.sessions.commit import Batch, Committed
from worker.process.event_writer import EventWriter
from worker.process.session_buffer import SESSION_BUFFER_CHARACTERS, RecordingFailed, SessionBuffer

#: A flush that is never due: what is written was asked for.
NEVER_S = 3600.0
LARGE = "r" * SESSION_BUFFER_CHARACTERS


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests count the looks for sessions that have ended.
    monkeypatch.setattr("worker.process.event_writer.WATCH_S", 0.02)


class Database:
    """Records what it is asked to store; a test may hold it, break it, or take a session away."""

    def __init__(self) -> None:
        self.calls: list[list[Batch]] = []
        self.stored: dict[int, list[Event]] = {}
        #: Raised by the next calls; None: that call succeeds.
        self.failures: deque[Exception | None] = deque()
        self.refused: set[int] = set()
        self.lost: set[int] = set()
        self.heads: dict[str, Head] = {}
        self.open = threading.Event()
        self.open.set()
        self._news = threading.Condition()
        self.looks = 0

    def record(self, batches: Sequence[Batch]) -> list[Committed]:
        with self._news:
            self.calls.append(list(batches))
            self._news.notify_all()
        assert self.open.wait(30)
        failure = self.failures.popleft() if self.failures else None
        if failure is not None:
            raise failure
        if any(batch.claim.row_id in self.refused for batch in batches):
            raise ValueError("refused")
        return [self._one(batch) for batch in batches]

    def _one(self, batch: Batch) -> Committed:
        if batch.claim.row_id in self.lost:
            return Committed(current=False)
        stored = self.stored.setdefault(batch.claim.row_id, [])
        assert batch.after == len(stored)
        stored += batch.events
        terminal = batch.terminal
        return Committed(True, len(stored), "running" if terminal is None else terminal.type)

    def look(self, session_ids: Iterable[str]) -> dict[str, Head]:
        asked = list(session_ids)
        with self._news:
            self.looks += 1
            self._news.notify_all()
        return {session_id: self.heads[session_id] for session_id in asked if session_id in self.heads}

    async def called(self, count: int) -> list[Batch]:
        """The batches of the *count*-th call, as soon as it has begun."""
        await asyncio.to_thread(self._wait, lambda: len(self.calls) >= count)
        return self.calls[count - 1]

    async def looked(self, more: int = 1) -> None:
        wanted = self.looks + more
        await asyncio.to_thread(self._wait, lambda: self.looks >= wanted)

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(condition, 20)


class Published:
    """Heads that keep what was published; a test may hold them, as a Redis that does not answer does."""

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.open = threading.Event()
        self.open.set()
        self._news = threading.Condition()

    def publish(self, heads: Iterable[Head], *, news: bool = True, known_at: float | None = None) -> None:
        assert self.open.wait(30)
        with self._news:
            self.heads += list(heads) if news else []
            self._news.notify_all()

    async def published(self, count: int) -> list[Head]:
        """All heads, as soon as there are so many."""
        await asyncio.to_thread(self._wait, count)
        return self.heads

    def _wait(self, count: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: len(self.heads) >= count, 20)


class Stage:
    """A writer with its surroundings."""

    def __init__(self, flush_s: float) -> None:
        self.database = Database()
        self.published = Published()
        self.stopped: list[int] = []
        self.writer = EventWriter(
            self.published,  # type: ignore[arg-type]
            flush_s=flush_s,
            record=self.database.record,
            look=self.database.look,
        )

    def open(self, row_id: int, attempt: int = 1) -> SessionBuffer:
        claim = Claim(row_id, f"session-{row_id}", None, "local", 1, "demo", "Hello?", attempt, 0, None, 0, 900.0)
        self.database.heads[claim.session_id] = Head(claim.session_id, "local", 0, "running", attempt=attempt)
        return self.writer.open(claim, lambda: self.stopped.append(row_id))


def on_stage(play: Callable[[Stage], Awaitable[Any]], flush_s: float = NEVER_S) -> None:
    """Run *play* with a writer of its own."""

    async def run() -> None:
        stage = Stage(flush_s)
        stage.writer.start()
        try:
            async with asyncio.timeout(30):
                await play(stage)
        finally:
            stage.database.open.set()
            await stage.writer.close()

    asyncio.run(run())


# gathering


def test_deltas_of_one_flush_are_one_event() -> None:
    async def play(stage: Stage) -> None:
        recorder = stage.open(1)
        for piece in "abc":
            await recorder.put(Delta(piece))
        await recorder.finish(Done("abc"))

        assert stage.database.calls == [[Batch(recorder.claim, 0, [Delta("abc"), Done("abc")])]]
        assert (recorder.finished, recorder.last_seq) == (True, 2)

    on_stage(play)


def test_what_waits_is_written_when_the_flush_is_due() -> None:
    async def play(stage: Stage) -> None:
        recorder = stage.open(1)
        await recorder.put(Delta("a"))

        [batch] = await stage.database.called(1)

        assert batch.events == [Delta("a")]

    on_stage(play, flush_s=0.01)


def test_an_urgent_event_is_written_at_once_with_what_others_have() -> None:
    async def play(stage: Stage) -> None:
        first, second = stage.open(1), stage.open(2)
        await first.put(Delta("a"))
        await second.put(Thinking(""), urgent=True)

        batches = await stage.database.called(1)

        assert [(batch.claim.row_id, batch.events) for batch in batches] == [(1, [Delta("a")]), (2, [Thinking("")])]

    on_stage(play)


def test_what_comes_during_a_flush_is_the_next_one() -> None:
    async def play(stage: Stage) -> None:
        recorder = stage.open(1)
        stage.database.open.clear()
        await recorder.put(Delta("a"), urgent=True)
        await stage.database.called(1)
        await recorder.put(Delta("b"))
        await recorder.put(Delta("c"), urgent=True)
        stage.database.open.set()

        [batch] = await stage.database.called(2)

        assert (batch.after, batch.events, batch.retried) == (1, [Delta("bc")], False)

    on_stage(play)


def test_one_flush_has_no_more_than_fits_a_transaction_and_the_rest_follows_at_once() -> None:
    async def play(stage: Stage) -> None:
        stage.database.open.clear()
        await stage.open(1).put(Delta("x"), urgent=True)
        await stage.database.called(1)
        for row_id in range(2, 14):
            await stage.open(row_id).put(Delta("x" * 1024 * 1024))
        stage.database.open.set()

        second, third = await stage.database.called(2), await stage.database.called(3)

        assert len(second) + len(third) == 12
        assert 8 <= len(second) <= 9

    on_stage(play, flush_s=0.01)


# checkpoints and ends


def test_a_checkpoint_returns_when_it_is_committed() -> None:
    async def play(stage: Stage) -> None:
        recorder = stage.open(1)
        stage.database.open.clear()
        await recorder.put(Delta("a"))
        stored = asyncio.create_task(recorder.checkpoint('{"step": 1}'))

        [batch] = await stage.database.called(1)
        assert batch.checkpoint == ('{"step": 1}', 1)
        assert not stored.done()
        stage.database.open.set()
        await stored

        assert recorder.last_seq == 1

    on_stage(play)


def test_a_finish_returns_when_it_is_committed() -> None:
    async def play(stage: Stage) -> None:
        recorder = stage.open(1)
        stage.database.open.clear()
        ended = asyncio.create_task(recorder.finish(Done("")))

        await stage.database.called(1)
        assert not ended.done()
        assert not recorder.finished
        stage.database.open.set()
        await ended

        assert recorder.finished

    on_stage(play)


def test_text_after_a_checkpoint_is_no_part_of_what_it_covers() -> None:
    async def play(stage: Stage) -> None:
        stage.database.open.clear()
        recorder = stage.open(1)
        await recorder.put(Thinking(""), urgent=True)
        await stage.database.called(1)
        await recorder.put(Delta("kept "))
        await recorder.put(Delta("too"))
        stored = asyncio.create_task(recorder.checkpoint("{}"))
        await asyncio.sleep(0)
        await recorder.put(Delta("later"))
        stage.database.open.set()
        await stored

        [batch] = stage.database.calls[1]
        assert batch.events == [Delta("kept too"), Delta("later")]
        assert batch.checkpoint == ("{}", 1)

    on_stage(play)


def test_a_checkpoint_without_events_is_stored() -> None:
    async def play(stage: Stage) -> None:
        recorder = stage.open(1)
        await recorder.checkpoint("{}")

        assert [(batch.events, batch.checkpoint) for batch in stage.database.calls[0]] == [([], ("{}", 0))]

    on_stage(play)


# the database is away


def test_the_same_batch_is_tried_again_and_says_so_until_it_is_committed() -> None:
    async def play(stage: Stage) -> None:
        stage.database.failures += [DatabaseUnavailable(), DatabaseUnavailable()]
        recorder = stage.open(1)
        await recorder.put(Delta("a"), urgent=True)
        await stage.database.called(1)
        await recorder.put(Delta("b"))
        await recorder.finish(Done("ab"))

        tries = [(batch.after, batch.events, batch.retried) for [batch] in stage.database.calls]
        assert tries == [
            (0, [Delta("a")], False),
            (0, [Delta("a")], True),
            (0, [Delta("a")], True),
            (1, [Delta("b"), Done("ab")], False),
        ]
        assert stage.stopped == []

    on_stage(play)


def test_a_session_that_starts_meanwhile_is_written_with_those_that_wait() -> None:
    async def play(stage: Stage) -> None:
        stage.database.failures += [DatabaseUnavailable()]
        old = stage.open(1)
        await old.put(Delta("a"), urgent=True)
        await stage.database.called(1)
        await stage.open(2).put(Delta("b"))

        batches = await stage.database.called(2)

        assert [(batch.claim.row_id, batch.retried) for batch in batches] == [(1, True), (2, False)]

    on_stage(play)


def test_a_session_that_outruns_the_database_waits_and_then_goes_on() -> None:
    async def play(stage: Stage) -> None:
        stage.database.open.clear()
        recorder = stage.open(1)
        await recorder.put(Delta("x"), urgent=True)
        await stage.database.called(1)
        piece = Delta("y" * 100_000)
        taken = 0
        while taken <= SESSION_BUFFER_CHARACTERS:
            await recorder.put(piece)
            taken += len(piece.content)
        blocked = asyncio.create_task(recorder.put(Delta("z")))
        other = stage.open(2)
        await asyncio.wait_for(other.put(Delta("not held up")), 5)

        done, _ = await asyncio.wait([blocked], timeout=0.2)
        assert not done
        stage.database.open.set()
        await blocked
        await recorder.finish(Done())

        text = "".join(event.content for event in stage.database.stored[1] if isinstance(event, Delta))
        assert text == "x" + "y" * taken + "z"

    on_stage(play, flush_s=0.01)


@pytest.mark.parametrize("large", [{"tool_result": LARGE}, {"tool_args": {"text": LARGE}}], ids=["result", "arguments"])
def test_large_tool_calls_fill_the_buffer_as_well(large: dict[str, Any]) -> None:
    async def play(stage: Stage) -> None:
        stage.database.open.clear()
        recorder = stage.open(1)
        await recorder.put(Delta("x"), urgent=True)
        await stage.database.called(1)

        async def call(**fields: Any) -> None:
            await recorder.put(ToolCall("c", "tool", **fields))

        await call(**large)
        blocked = asyncio.create_task(call(tool_result="small"))
        done, _ = await asyncio.wait([blocked], timeout=0.2)
        assert not done
        stage.database.open.set()
        await blocked

    on_stage(play, flush_s=0.01)


def test_many_small_events_fill_the_buffer_as_well() -> None:
    async def play(stage: Stage) -> None:
        stage.database.open.clear()
        recorder = stage.open(1)
        await recorder.put(Delta("x"), urgent=True)
        await stage.database.called(1)

        async def run() -> None:
            for _ in range(20_000):
                await recorder.put(Delta(""))

        endless = asyncio.create_task(run())
        done, _ = await asyncio.wait([endless], timeout=0.3)
        assert not done
        stage.database.open.set()
        await endless

    on_stage(play, flush_s=0.01)


# fenced


def test_a_fenced_session_stops_and_the_others_go_on() -> None:
    async def play(stage: Stage) -> None:
        lost, kept = stage.open(1), stage.open(2)
        stage.database.lost.add(1)
        await lost.put(Delta("a"))
        await kept.put(Delta("b"))
        ended = asyncio.gather(lost.checkpoint("{}"), return_exceptions=True)
        await kept.finish(Done("b"))

        [error] = await ended
        assert isinstance(error, Fenced)
        assert lost.fenced
        assert stage.stopped == [1]
        for refused in (lambda: lost.put(Delta("c")), lambda: lost.checkpoint("{}"), lambda: lost.finish(Done())):
            with pytest.raises(Fenced):
                await refused()
        assert kept.finished

    on_stage(play)


def test_one_who_waits_for_room_is_told_that_the_session_is_fenced() -> None:
    async def play(stage: Stage) -> None:
        stage.database.open.clear()
        recorder = stage.open(1)
        await recorder.put(Delta("x"), urgent=True)
        await stage.database.called(1)
        await recorder.put(Delta("y" * (SESSION_BUFFER_CHARACTERS + 1)))
        blocked = asyncio.create_task(recorder.put(Delta("z")))
        await asyncio.sleep(0)
        stage.database.lost.add(1)
        stage.database.open.set()

        with pytest.raises(Fenced):
            await blocked

    on_stage(play)


def test_the_next_attempt_in_the_same_process_fences_the_one_before() -> None:
    async def play(stage: Stage) -> None:
        old = stage.open(1, attempt=1)
        await old.put(Delta("old"))
        new = stage.open(1, attempt=2)

        assert stage.stopped == [1]
        with pytest.raises(Fenced):
            await old.put(Delta("more"))
        await new.finish(Done("new"))
        assert [[batch.claim.attempt for batch in call] for call in stage.database.calls] == [[2]]
        old.close()

    on_stage(play)


@pytest.mark.parametrize("change", ["taken over", "ended", "deleted"])
def test_an_idle_session_learns_from_the_database_that_it_is_no_longer_current(change: str) -> None:
    async def play(stage: Stage) -> None:
        idle, other = stage.open(1), stage.open(2)
        await stage.database.looked()
        assert not idle.fenced
        head = stage.database.heads.pop("session-1")
        if change != "deleted":
            status, attempt = ("running", 2) if change == "taken over" else ("error", 1)
            stage.database.heads["session-1"] = replace(head, status=status, attempt=attempt, seq=5)
        await stage.database.looked(2)

        assert stage.stopped == [1]
        assert (idle.fenced, other.fenced) == (True, False)

    on_stage(play)


def test_a_session_with_something_to_write_is_judged_by_its_flush() -> None:
    async def play(stage: Stage) -> None:
        recorder = stage.open(1)
        await recorder.put(Delta("landed already, but nobody told"))
        del stage.database.heads["session-1"]
        await stage.database.looked(2)

        assert not recorder.fenced

    on_stage(play)


# refused


def test_what_the_database_refuses_hurts_its_own_session_alone() -> None:
    async def play(stage: Stage) -> None:
        stage.database.refused.add(2)
        recorders = [stage.open(row_id) for row_id in (1, 2, 3)]
        ends = await asyncio.gather(*(each.finish(Done("x")) for each in recorders), return_exceptions=True)

        assert [type(end) for end in ends] == [type(None), RecordingFailed, type(None)]
        assert stage.stopped == [2]
        assert {1: [Done("x")], 3: [Done("x")]} == stage.database.stored
        with pytest.raises(RecordingFailed):
            await recorders[1].put(Delta("more"))

    on_stage(play)


@pytest.mark.filterwarnings("default")
def test_an_event_that_can_not_even_be_gathered_hurts_its_own_session_alone() -> None:
    async def play(stage: Stage) -> None:
        bad, good = stage.open(1), stage.open(2)
        await bad.put(Thinking(b"bytes"))  # type: ignore[arg-type]
        await bad.put(Thinking("text"))
        await good.finish(Done("x"))

        assert good.finished
        assert stage.stopped == [1]
        with pytest.raises(RecordingFailed):
            await bad.put(Delta("more"))

    on_stage(play)


def test_an_outage_while_the_refused_one_is_looked_for_loses_nothing() -> None:
    async def play(stage: Stage) -> None:
        # Both are refused together, then the database goes away at the first one alone.
        stage.database.failures += [ValueError("refused"), DatabaseUnavailable()]
        first, second = stage.open(1), stage.open(2)
        await asyncio.gather(first.finish(Done("a")), second.finish(Done("b")))

        assert stage.database.stored == {1: [Done("a")], 2: [Done("b")]}
        assert stage.stopped == []

    on_stage(play)


# heads


def test_readers_are_told_after_the_commit_and_only_of_what_was_written() -> None:
    async def play(stage: Stage) -> None:
        stage.database.lost.add(2)
        stage.database.open.clear()
        kept, lost = stage.open(1), stage.open(2)
        await lost.put(Delta("a"))
        ended = asyncio.create_task(kept.finish(Done("")))
        await stage.database.called(1)
        assert stage.published.heads == []
        stage.database.open.set()
        await ended

        heads = await stage.published.published(1)
        assert [(head.session_id, head.seq, head.status) for head in heads] == [("session-1", 1, "done")]

    on_stage(play)


def test_a_redis_that_does_not_answer_holds_up_neither_commits_nor_the_look_for_what_has_ended() -> None:
    async def play(stage: Stage) -> None:
        stage.published.open.clear()
        cancelled, other = stage.open(1), stage.open(2)
        try:
            async with asyncio.timeout(20):
                await other.checkpoint("{}")
                await other.finish(Done(""))
                del stage.database.heads["session-1"]
                await stage.database.looked(2)
        finally:
            stage.published.open.set()

        assert cancelled.fenced

    on_stage(play)


def test_what_is_closed_is_not_written_any_more() -> None:
    async def play(stage: Stage) -> None:
        closed, other = stage.open(1), stage.open(2)
        await closed.put(Delta("a"))
        closed.close()
        await other.finish(Done(""))

        assert [[batch.claim.row_id for batch in call] for call in stage.database.calls] == [[2]]

    on_stage(play)
