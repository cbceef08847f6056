"""Runs of a worker process: every end, resuming, stopping, and outages of what it stands on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from app import db, sessions
from app.agents import DEFAULT_AGENT
from app.broker.client import open_redis
from app.broker.heads import Heads
from app.broker.queue import TurnQueue
from app.conversations import messages
from app.errors import DatabaseUnavailable
from app.events import Delta, Done, Error, Thinking, ToolCall, Usage
from app.sessions import claims, removal
from app.sessions.doorbell import Doorbell
from app.settings import Settings
from tests.conftest import close_all, opened
from tests.factories import (
    OWNER,
    assert_sound,
    change,
    events_of,
    eventually,
    exists,
    kinds_of,
    make_claim,
    make_session,
    messages_of,
    orphan,
    row,
    shown,
    write,
)
from tests.servers import MariaDB, RedisServer, free_port
from worker.orchestrator import Checkpoint, Turn, TurnFailed, Withdrawal
from worker.process import WorkerProcess
from worker.process.sweeper import Sweeper

Answer = Callable[[Turn], AsyncIterator[Any]]


@pytest.fixture
def settings(store: str, redis_server: RedisServer) -> Iterator[Settings]:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    bound = db.database.obj
    yield Settings(database_url=store, redis_url=redis_server.url, flush_ms=20, lease_s=60.0, models="model-y")
    if db.database.obj is not bound:
        close_all(db.database.obj)
        db.database.initialize(bound)


@asynccontextmanager
async def working(settings: Settings, answer: Answer, **fields: Any) -> AsyncIterator[WorkerProcess]:
    """A started worker process without RQ."""
    runtime = WorkerProcess(settings, answer=answer, **({"sweeps": False} | fields))  # type: ignore[arg-type]
    bound = db.database.obj
    await runtime.start()
    if bound is not None and bound is not db.database.obj:
        close_all(bound)  # one process has one; the test's own connections begin anew
    try:
        yield runtime
    finally:
        await runtime.close()


def play(work: Awaitable[Any], timeout_s: float = 90.0) -> Any:
    async def run() -> Any:
        async with asyncio.timeout(timeout_s):
            return await work

    return asyncio.run(run())


def answered(settings: Settings, answer: Answer, session_id: str | None = None, **fields: Any) -> str:
    """Run a session, by default a new one, to its end; its id."""
    session_id = session_id or make_session()

    async def run() -> None:
        async with working(settings, answer, **fields) as runtime:
            await runtime.run(session_id)

    play(run())
    return session_id


class Scripted:
    """Yields *steps*, waits where one is an event of the test, and keeps what it was given and how it was closed."""

    def __init__(self, *steps: Any) -> None:
        self.steps = steps
        self.turns: list[Turn] = []
        #: Set when a `Hold` is reached; when the generator was closed, and when in the loop's time.
        self.held = threading.Event()
        self.closed = threading.Event()
        self.closed_at = 0.0

    async def __call__(self, turn: Turn) -> AsyncIterator[Any]:
        self.turns.append(turn)
        try:
            for step in self.steps:
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, Hold):
                    self.held.set()
                    await step.wait()
                else:
                    yield step
        finally:
            self.closed_at = time.monotonic()
            self.closed.set()

    async def reached(self) -> None:
        """Return when a `Hold` is reached."""
        assert await asyncio.to_thread(self.held.wait, 30)


class Hold:
    """A step at which an answer waits until it is let go; for ever by default."""

    def __init__(self) -> None:
        self._go = threading.Event()

    async def wait(self) -> None:
        while not self._go.is_set():
            await asyncio.sleep(0.01)

    def let_go(self) -> None:
        self._go.set()


# ends


def test_an_answer_lands_whole_with_its_usage(settings: Settings) -> None:
    usage = Usage(input_tokens=11, output_tokens=4, cache_read_tokens=8)
    answer = Scripted(
        Thinking("hm"),
        "It ",
        ToolCall("c", "add", {"a": 1}),
        ToolCall("c", "add", {"a": 1}, "2", True, 3),
        Delta("is 2"),
        Done(model="model-x", usage=usage),
    )

    session_id = answered(settings, answer)

    session, events = shown(session_id), events_of(session_id)
    assert (session["status"], session["finalResponse"], session["totalTokens"]) == ("done", "It is 2", 15)
    assert [event["eventType"] for event in events] == [
        "thinking", "thinking", "delta", "tool_call", "tool_call", "delta", "done",
    ]  # fmt: skip
    assert (events[0]["content"], events[-1]["content"], events[-1]["model"]) == ("", "It is 2", "model-x")
    assert messages_of(session_id) == [("user", "Hello?"), ("assistant", "It is 2")]
    assert answer.closed.is_set()
    assert_sound(session_id)


@pytest.mark.parametrize("reason", [None, "stop", "length"])
def test_why_the_model_stopped_is_told_wherever_the_answer_is(settings: Settings, reason: str | None) -> None:
    session_id = answered(settings, Scripted("Once upon", Done(finish_reason=reason)))

    message = messages.of_session(OWNER, session_id).rows[-1]
    assert shown(session_id)["finishReason"] == reason
    assert events_of(session_id)[-1]["finishReason"] == reason
    assert message["metadata"].get("finishReason") == reason


def test_an_answer_without_a_done_is_its_deltas(settings: Settings) -> None:
    session_id = answered(settings, Scripted("a", "", Thinking(""), "b"))

    assert (shown(session_id)["status"], shown(session_id)["finalResponse"]) == ("done", "ab")
    assert shown(session_id)["model"] == "demo"


def test_an_empty_answer_is_done(settings: Settings) -> None:
    session_id = answered(settings, Scripted())

    assert kinds_of(session_id) == ["thinking", "done"]


class Secret(Exception):
    """Must not be shown to a client."""


class Panic(BaseException):
    """What libraries in other languages raise when they are at their wits' end."""


FAILURES = {
    "told": (TurnFailed("model_rate_limited", "the model has had enough"), "model_rate_limited"),
    "unexpected": (Secret("sk-123"), "orchestrator_error"),
    "own timeout": (TimeoutError("of something inside"), "orchestrator_error"),
    "exit": (SystemExit("usage: …"), "orchestrator_error"),
    "panic": (Panic("of a library"), "orchestrator_error"),
    "wrong type": (42, "orchestrator_error"),
    "checkpoint that is no json": (Checkpoint({"a": object()}), "orchestrator_error"),
    "whole answer that is no text": (Done(5), "orchestrator_error"),  # type: ignore[arg-type]
    "thinking that is no text": (Thinking(b"x"), "orchestrator_error"),  # type: ignore[arg-type]
    "delta that is no text": (Delta(5), "orchestrator_error"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("failure", "code"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_ends_the_session_with_its_code_and_the_partial_answer(
    settings: Settings, failure: Any, code: str
) -> None:
    answer = Scripted("half", failure, Hold())

    session_id = answered(settings, answer)

    session = shown(session_id)
    assert (session["status"], session["errorCode"], session["finalResponse"]) == ("error", code, "half")
    assert "sk-123" not in session["errorMessage"]
    assert answer.closed.is_set()
    assert_sound(session_id)


@pytest.fixture
def refusing(settings: Settings) -> Iterator[None]:
    """The database refuses events of the tool `refused`."""
    condition = "NEW.toolName = 'refused'"
    each_row = (
        f"WHEN {condition} BEGIN SELECT RAISE(ABORT, 'refused'); END"
        if db.is_sqlite()
        else f"FOR EACH ROW IF {condition} THEN SIGNAL SQLSTATE '45000'; END IF"
    )
    db.transaction(lambda: db.sql(f"CREATE TRIGGER refusing BEFORE INSERT ON chatEvents {each_row}"))
    yield
    db.transaction(lambda: db.sql("DROP TRIGGER refusing"))


@pytest.mark.usefixtures("refusing")
def test_what_the_database_refuses_ends_its_own_session_alone(settings: Settings) -> None:
    bad, good = make_session(), make_session()
    hold = Hold()

    async def answer(turn: Turn) -> AsyncIterator[Any]:
        yield "text"
        if turn.session_id == bad:
            yield ToolCall("c", "refused")
            await Hold().wait()
        await hold.wait()
        yield " and more"

    async def run() -> None:
        async with working(settings, answer) as runtime:
            runs = asyncio.gather(runtime.run(bad), runtime.run(good))
            await eventually(lambda: shown(bad)["status"] == "error", "the end of the bad one")
            hold.let_go()
            await runs

    play(run())

    assert (shown(bad)["errorCode"], shown(bad)["finalResponse"]) == ("internal_error", "text")
    assert (shown(good)["status"], shown(good)["finalResponse"]) == ("done", "text and more")
    assert_sound(bad)
    assert_sound(good)


def test_a_turn_that_takes_too_long_ends_as_timeout(settings: Settings) -> None:
    session_id = make_session()
    answer = Scripted("half", Hold())

    answered(Settings(**(vars_of(settings) | {"turn_timeout_s": 1})), answer, session_id)

    assert (shown(session_id)["errorCode"], shown(session_id)["finalResponse"]) == ("timeout", "half")
    assert answer.closed.is_set()


def vars_of(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def test_a_timeout_is_told_as_such_whatever_the_orchestrator_makes_of_its_cancellation(settings: Settings) -> None:
    async def answer(turn: Turn) -> AsyncIterator[Any]:
        yield "half"
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ConnectionError("the connection was closed") from None

    session_id = answered(Settings(**(vars_of(settings) | {"turn_timeout_s": 1})), answer)

    assert shown(session_id)["errorCode"] == "timeout"


def test_a_turn_that_is_resumed_past_its_deadline_keeps_what_it_had_said(settings: Settings) -> None:
    claim = make_claim(worker="dead")
    write(claim, Thinking(""), Delta("half"), checkpoint='{"said": 1}')
    write(claim, Delta(" is lost"))
    orphan(claim.session_id)
    change(claim.session_id, deadline_ms=db.now_ms(-1))

    answered(settings, Scripted(" and more"), claim.session_id)

    session = shown(claim.session_id)
    assert (session["errorCode"], session["finalResponse"]) == ("timeout", "half")
    assert events_of(claim.session_id)[-1]["content"] == "half"
    assert_sound(claim.session_id)


def test_a_cancellation_that_the_orchestrator_made_itself_is_a_failure_that_keeps_the_text(settings: Settings) -> None:
    async def answer(turn: Turn) -> AsyncIterator[Any]:
        yield "half"
        helper = asyncio.create_task(asyncio.sleep(60))
        helper.cancel()
        await helper

    session_id = answered(settings, answer)

    assert (shown(session_id)["errorCode"], shown(session_id)["finalResponse"]) == ("orchestrator_error", "half")


def test_an_answer_that_is_too_large_ends_with_what_fits(settings: Settings) -> None:
    limited = Settings(**(vars_of(settings) | {"max_content_bytes": 1000}))

    session_id = answered(limited, Scripted("жж" * 200, "x" * 150, "ж" * 100, Hold()))

    assert shown(session_id)["errorCode"] == "answer_too_large"
    assert shown(session_id)["finalResponse"] == "жж" * 200 + "x" * 150


def test_a_whole_answer_that_is_too_large_ends_with_what_was_streamed(settings: Settings) -> None:
    limited = Settings(**(vars_of(settings) | {"max_content_bytes": 1000}))

    session_id = answered(limited, Scripted("streamed", Done("ж" * 501)))

    assert shown(session_id)["errorCode"] == "answer_too_large"
    assert shown(session_id)["finalResponse"] == "streamed"
    assert shown(answered(limited, Scripted("streamed", Done("ж" * 500))))["finalResponse"] == "ж" * 500


def test_a_tool_result_that_is_too_large_is_cut_and_says_so(settings: Settings) -> None:
    limited = Settings(**(vars_of(settings) | {"max_content_bytes": 1001}))

    session_id = answered(limited, Scripted(ToolCall("c", "read", None, "ж" * 5000, True, 1), Done("ok")))

    result = events_of(session_id)[1]["toolResult"]
    assert result.startswith("ж" * 500 + "\n")
    assert "too large" in result


def test_an_agent_that_is_no_longer_configured_ends_its_sessions(settings: Settings) -> None:
    session_id = answered(settings, Scripted("x"), make_session(agent_id=77))

    assert shown(session_id)["errorCode"] == "unknown_agent"
    assert_sound(session_id)


def test_an_orchestrator_is_told_the_message_the_history_and_the_agent(settings: Settings) -> None:
    first = make_session(message="one?")
    conversation = row(first).conversation_id
    answered(settings, Scripted("1"), first)
    failed = make_session(message="fails", conversation_id=conversation)
    answered(settings, Scripted("half", TurnFailed("model_error", "…")), failed)
    second = make_session(message="two?", conversation_id=conversation, model="model-y")
    answer = Scripted("2")

    answered(settings, answer, second)

    [turn] = answer.turns
    assert [(message.role, message.content) for message in turn.history] == [("user", "one?"), ("assistant", "1")]
    assert (turn.message, turn.model, turn.agent, turn.attempt, turn.checkpoint) == (
        "two?", "model-y", DEFAULT_AGENT, 1, None,
    )  # fmt: skip
    assert (turn.session_id, turn.conversation_id) == (second, conversation)


@pytest.mark.parametrize(
    "model", ["huggingface:http://127.0.0.1:9/x", "openai-codex:gpt-5", "model-x", "test", "*", "", "model-y "]
)
def test_a_model_that_is_not_offered_is_not_loaded(settings: Settings, model: str) -> None:
    session_id = make_session(model=model or "x")
    answer = Scripted("x")

    answered(settings, answer, session_id)

    assert answer.turns == []
    assert shown(session_id)["errorCode"] == "unknown_model"


def test_the_end_of_a_session_rings_for_the_next_of_its_conversation(settings: Settings) -> None:
    first = make_session()
    second = make_session(conversation_id=row(first).conversation_id)

    answered(settings, Scripted("x"), first)

    assert jobs(settings) == [f"{second}-0"]


def jobs(settings: Settings) -> list[str]:
    with redis.Redis.from_url(settings.redis_url) as client:
        return [job.decode() for job in client.lrange("rq:queue:sessions", 0, -1)]


def test_a_session_that_can_not_be_claimed_is_left_alone(settings: Settings) -> None:
    answer = Scripted("x")
    held = make_claim().session_id

    answered(settings, answer, held)
    answered(settings, answer, "unknown")

    assert answer.turns == []
    assert row(held).attempt == 1


# stop and resume


def test_a_stopping_worker_hands_back_and_another_goes_on_from_the_checkpoint(settings: Settings) -> None:
    session_id = make_session()
    result = ToolCall("c", "add", {"a": 1}, "2", True, 3)
    first = Scripted("It ", ToolCall("c", "add", {"a": 1}), result, Checkpoint({"done": ["c"]}), "is lost", Hold())
    second = Scripted("is 2", Done())

    async def run() -> None:
        async with working(settings, first) as runtime:
            running = asyncio.create_task(runtime.run(session_id))
            await first.reached()
            await eventually(lambda: row(session_id).last_seq == 5, "all of it to be written")
            await runtime.drain(0.05)
            await running
        assert jobs(settings) == [f"{session_id}-1"]
        async with working(settings, second) as runtime:
            await runtime.run(session_id)

    play(run())

    session = row(session_id)
    assert (session.status, session.final_response) == ("done", "It is 2")
    assert (session.attempt, session.handbacks) == (2, 1)
    [turn] = second.turns
    assert (turn.attempt, turn.checkpoint) == (2, {"done": ["c"]})
    resumed = [event for event in events_of(session_id) if event["attempt"] == 2]
    assert (resumed[0]["eventType"], resumed[0]["supersedesFrom"]) == ("thinking", 5)
    assert first.closed.is_set()
    assert_sound(session_id)


def test_a_stopping_worker_lets_sessions_finish_within_its_grace(settings: Settings) -> None:
    session_id = make_session()
    hold = Hold()
    answer = Scripted("a", hold, "b")

    async def run() -> None:
        async with working(settings, answer) as runtime:
            running = asyncio.create_task(runtime.run(session_id))
            await answer.reached()
            draining = asyncio.create_task(runtime.drain(30))
            await asyncio.sleep(0)
            refused = make_session()
            await runtime.run(refused)
            assert row(refused).attempt == 0
            hold.let_go()
            await draining
            await running

    play(run())

    assert (row(session_id).status, row(session_id).final_response, row(session_id).handbacks) == ("done", "ab", 0)


def test_a_second_stop_hands_back_at_once(settings: Settings) -> None:
    session_id = make_session()
    answer = Scripted("a", Hold())

    async def run() -> float:
        async with working(settings, answer) as runtime:
            running = asyncio.create_task(runtime.run(session_id))
            await answer.reached()
            patient = asyncio.create_task(runtime.drain(60))
            await asyncio.sleep(0)
            started = time.monotonic()
            await runtime.drain(0)
            await patient
            await running
            return time.monotonic() - started

    assert play(run()) < 10
    assert (row(session_id).status, row(session_id).handbacks) == ("running", 1)


def test_a_stopped_session_is_handed_back_whatever_the_orchestrator_makes_of_its_cancellation(
    settings: Settings,
) -> None:
    session_id = make_session()
    held = threading.Event()

    async def answer(turn: Turn) -> AsyncIterator[Any]:
        yield "half"
        held.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ConnectionError("the connection was closed") from None

    async def run() -> None:
        async with working(settings, answer) as runtime:
            running = asyncio.create_task(runtime.run(session_id))
            assert await asyncio.to_thread(held.wait, 30)
            await runtime.drain(0)
            await running

    play(run())

    assert (row(session_id).status, row(session_id).handbacks) == ("running", 1)


class Stubborn:
    """An orchestrator that takes no notice of its cancellation until it is released."""

    def __init__(self) -> None:
        self.held, self.release = threading.Event(), threading.Event()

    async def __call__(self, turn: Turn) -> AsyncIterator[Any]:
        yield "half"
        self.held.set()
        while not self.release.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue


def test_an_orchestrator_that_will_not_stop_does_not_keep_the_worker(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.process.run.CLOSE_S", 0.5)
    session_id = make_session()
    answer = Stubborn()

    async def run() -> float:
        async with working(settings, answer) as runtime:
            running = asyncio.create_task(runtime.run(session_id))
            assert await asyncio.to_thread(answer.held.wait, 30)
            started = time.monotonic()
            await runtime.drain(0)
            took = time.monotonic() - started
            answer.release.set()
            await running
            return took

    assert play(run()) < 20


def test_a_session_that_was_taken_from_an_orchestrator_that_will_not_stop_gives_its_place_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.process.run.CLOSE_S", 0.1)
    session_id = make_session()
    answer = Stubborn()

    async def run() -> None:
        async with working(settings, answer) as runtime:
            running = asyncio.create_task(runtime.run(session_id))
            assert await asyncio.to_thread(answer.held.wait, 30)
            await asyncio.to_thread(removal.delete, OWNER, session_id)
            ended, _ = await asyncio.wait([running], timeout=20)
            answer.release.set()
            assert ended

    play(run())


# lost workers


def sweeper(settings: Settings, name: str = "sweeper-1") -> Sweeper:
    queue = TurnQueue(settings.redis_url)
    return Sweeper(name, settings, queue, Doorbell(Heads(open_redis(settings.redis_url)), queue))


def lost(*, attempts: int = 1) -> str:
    """A session whose worker died, for the *attempts*-th time."""
    session_id = make_session()
    for _ in range(attempts):
        claim = make_claim(session_id, worker="dead")
        write(claim, Thinking("", None if claim.attempt == 1 else 1), Delta("half"))
        orphan(session_id)
    return session_id


def test_a_session_of_a_dead_worker_is_rung_and_resumed(settings: Settings) -> None:
    session_id = make_session()
    claim = make_claim(session_id, worker="dead")
    write(claim, Thinking(""), Delta("It "), checkpoint='{"said": 1}')
    write(claim, Delta("was lost"))
    orphan(session_id)
    answer = Scripted("is 2")

    assert sweeper(settings).sweep() == 1
    assert jobs(settings) == [f"{session_id}-1"]
    answered(settings, answer, session_id)

    assert (row(session_id).final_response, row(session_id).attempt, row(session_id).handbacks) == ("It is 2", 2, 0)
    assert answer.turns[0].checkpoint == {"said": 1}
    [first] = [event for event in events_of(session_id) if event.get("supersedesFrom")]
    assert (first["seq"], first["supersedesFrom"]) == (4, 3)
    assert_sound(session_id)


def test_a_session_of_a_dead_worker_goes_before_those_that_wait_although_an_old_job_of_it_does_too(
    settings: Settings,
) -> None:
    waiting, orphan = make_session(), lost()
    for session_id in (waiting, orphan):
        TurnQueue(settings.redis_url).ring(session_id, 0)

    assert sweeper(settings).sweep() == 1

    assert jobs(settings) == [f"{orphan}-1", f"{waiting}-0", f"{orphan}-0"]


def test_a_session_that_killed_its_workers_ends_as_lost_with_what_it_said(settings: Settings) -> None:
    session_id = lost(attempts=3)
    waiting = make_session(conversation_id=row(session_id).conversation_id)

    assert sweeper(settings).sweep() == 1

    session = shown(session_id)
    assert (session["status"], session["errorCode"], session["finalResponse"]) == ("error", "worker_lost", "half")
    assert jobs(settings) == [f"{waiting}-0"]
    assert_sound(session_id)


def test_a_session_past_its_deadline_ends_as_timeout_although_its_worker_lives(settings: Settings) -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("half"))
    change(claim.session_id, deadline_ms=db.now_ms(-1))

    assert sweeper(settings).sweep() == 1

    assert (shown(claim.session_id)["errorCode"], shown(claim.session_id)["finalResponse"]) == ("timeout", "half")
    assert not claims.hand_back(claim)


def test_a_session_that_can_not_be_ended_does_not_keep_the_sweeper_from_the_others(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, orphan, waiting = lost(attempts=3), lost(), make_session()

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(sessions, "end_orphaned", refuse)
        assert sweeper(settings).sweep() == 2

    assert sorted(jobs(settings)) == sorted([f"{orphan}-1", f"{waiting}-0"])
    assert shown(broken)["status"] == "running"


def test_a_session_whose_events_make_no_sense_any_more_ends_without_them(settings: Settings) -> None:
    broken = lost(attempts=3)
    write(make_claim(broken, max_attempts=9), ToolCall("c", "tool", {}))
    no_json = "UPDATE chatEvents SET toolArgs = '{' WHERE sessionId = ?"
    db.transaction(lambda: db.sql(no_json, [broken]))
    orphan(broken)

    assert sweeper(settings).sweep() == 1

    assert (shown(broken)["status"], shown(broken)["errorCode"]) == ("error", "worker_lost")


def test_sessions_whose_jobs_redis_lost_are_rung_again(settings: Settings) -> None:
    sessions_ = [make_session() for _ in range(3)]
    behind = make_session(conversation_id=row(sessions_[0]).conversation_id)

    assert sweeper(settings).sweep() == 3

    assert sorted(jobs(settings)) == sorted(f"{session_id}-0" for session_id in sessions_)
    assert f"{behind}-0" not in jobs(settings)
    assert sweeper(settings).sweep() == 0  # they have their jobs


def test_what_is_run_or_has_its_job_is_left_alone(settings: Settings) -> None:
    make_claim()
    sessions.end(make_session(), Error("cancelled", "…"))
    TurnQueue(settings.redis_url).ring(make_session(), 0)

    assert sweeper(settings).sweep() == 0


def test_one_worker_sweeps_at_a_time(settings: Settings) -> None:
    lost()

    assert sweeper(settings, "first").sweep() == 1
    with redis.Redis.from_url(settings.redis_url) as client:
        client.flushall()

    assert sweeper(settings, "second").sweep() == 0
    assert sweeper(settings, "first").sweep() == 1


def test_a_sweep_without_redis_still_ends_what_has_used_up_its_attempts(settings: Settings) -> None:
    session_id, waiting = lost(attempts=3), make_session()
    cut_off = Settings(**(vars_of(settings) | {"redis_url": f"redis://127.0.0.1:{free_port()}/0"}))

    assert sweeper(cut_off).sweep() == 1

    assert shown(session_id)["errorCode"] == "worker_lost"
    assert row(waiting).status == "running"


# cancel and delete while it runs


@pytest.fixture(params=["redis up", "redis down", "redis silent"])
def with_or_without_redis(
    request: pytest.FixtureRequest, settings: Settings, make_redis: Callable[..., RedisServer]
) -> Settings:
    if request.param == "redis up":
        return settings
    if request.param == "redis silent":
        silent = make_redis()
        silent.pause()
        return Settings(**(vars_of(settings) | {"redis_url": silent.url}))
    return Settings(**(vars_of(settings) | {"redis_url": f"redis://127.0.0.1:{free_port()}/0"}))


@pytest.mark.parametrize("streaming", [False, True], ids=["silent", "streaming"])
def test_a_cancelled_session_stops_its_model_call_within_a_second(
    with_or_without_redis: Settings, streaming: bool
) -> None:
    session_id = make_session()
    closed: list[float] = []
    held = threading.Event()

    async def answer(turn: Turn) -> AsyncIterator[Any]:
        try:
            yield "half"
            held.set()
            while True:
                await asyncio.sleep(0.01)
                if streaming:
                    yield "."
        finally:
            closed.append(time.monotonic())

    async def run() -> float:
        async with working(with_or_without_redis, answer) as runtime:
            running = asyncio.create_task(runtime.run(session_id))
            assert await asyncio.to_thread(held.wait, 30)
            await eventually(lambda: row(session_id).last_seq >= 2, "the first text")
            await asyncio.to_thread(sessions.end, session_id, Error("cancelled", "cancelled by the user"))
            ended = time.monotonic()
            await running
            return closed[0] - ended

    assert play(run()) < 1.0
    session = shown(session_id)
    assert session["errorCode"] == "cancelled"
    assert session["finalResponse"].startswith("half")
    assert len(messages_of(session_id)) == 2
    assert_sound(session_id)


def test_a_session_that_is_deleted_while_it_runs_stops_and_leaves_nothing(with_or_without_redis: Settings) -> None:
    session_id = make_session()
    answer = Scripted("half", Hold())

    async def run() -> None:
        async with working(with_or_without_redis, answer) as runtime:
            running = asyncio.create_task(runtime.run(session_id))
            await answer.reached()
            await asyncio.to_thread(removal.delete, OWNER, session_id)
            await running

    play(run())

    assert answer.closed.is_set()
    assert not exists(session_id)
    assert messages_of(session_id) == []


def test_a_session_that_was_taken_over_stops_and_writes_nothing_more(settings: Settings) -> None:
    session_id = make_session()
    answer = Scripted("old", Hold())

    async def run() -> None:
        async with working(settings, answer) as runtime:
            running = asyncio.create_task(runtime.run(session_id))
            await answer.reached()
            await eventually(lambda: row(session_id).last_seq == 2, "the first text")
            await asyncio.to_thread(orphan, session_id)
            claim = await asyncio.to_thread(make_claim, session_id, worker="worker-2")
            await running
            assert row(session_id).attempt == 2
            await asyncio.to_thread(write, claim, Thinking("", 1), Delta("new"), Done("new"))

    play(run())

    assert answer.closed.is_set()
    assert row(session_id).final_response == "new"
    assert_sound(session_id)


# outages of the database


@pytest.fixture
def own_mariadb(make_mariadb: Callable[[], MariaDB], redis_server: RedisServer) -> Iterator[tuple[MariaDB, Settings]]:
    """A migrated MariaDB that the test may kill, and settings for it."""
    bound = db.database.obj
    server = make_mariadb()
    settings = Settings(
        database_url=server.create_database("own"), redis_url=redis_server.url, flush_ms=20, lease_s=60.0
    )
    with opened(settings.database_url):
        yield server, settings
        close_all(db.database.obj)
    db.database.initialize(bound)


def test_runs_go_on_through_an_outage_of_the_database_and_nothing_is_lost_or_doubled(
    own_mariadb: tuple[MariaDB, Settings],
) -> None:
    server, settings = own_mariadb
    made = [make_session() for _ in range(3)]
    said: dict[str, int] = dict.fromkeys(made, 0)
    finish = threading.Event()

    async def answer(turn: Turn) -> AsyncIterator[Any]:
        while not finish.is_set():
            yield f"{said[turn.session_id]} "
            said[turn.session_id] += 1
            if said[turn.session_id] % 50 == 0:
                yield Checkpoint(said[turn.session_id])
            await asyncio.sleep(0.01)

    async def run() -> None:
        async with working(settings, answer) as runtime:
            runs = asyncio.gather(*(runtime.run(session_id) for session_id in made))
            await eventually(lambda: all(row(each).last_seq > 5 for each in made), "text of all")
            server.kill9()
            before = dict(said)
            await eventually(lambda: all(said[each] > before[each] for each in made), "more text meanwhile")
            await asyncio.to_thread(server.start)
            seqs = {}

            def moved() -> bool:
                try:
                    seqs.update({each: row(each).last_seq for each in made})
                except DatabaseUnavailable:
                    return False
                return all(seq > 10 for seq in seqs.values())

            await eventually(moved, "the database to be back")
            finish.set()
            await runs

    play(run())

    for session_id in made:
        whole = "".join(f"{number} " for number in range(said[session_id]))
        assert (row(session_id).status, row(session_id).attempt) == ("done", 1)
        assert row(session_id).final_response == whole
        deltas = [event["content"] for event in events_of(session_id) if event["eventType"] == "delta"]
        assert "".join(deltas) == whole
        assert_sound(session_id)


def test_a_session_that_ends_during_an_outage_is_done_after_it(own_mariadb: tuple[MariaDB, Settings]) -> None:
    server, settings = own_mariadb
    session_id = make_session()
    hold = Hold()
    answer = Scripted("a", hold, "b")

    async def run() -> None:
        async with working(settings, answer) as runtime:
            running = asyncio.create_task(runtime.run(session_id))
            await answer.reached()
            await eventually(lambda: row(session_id).last_seq == 2, "the first text")
            server.kill9()
            hold.let_go()
            assert await asyncio.to_thread(answer.closed.wait, 30)
            await asyncio.to_thread(server.start)
            await running

    play(run())

    assert (row(session_id).status, row(session_id).final_response) == ("done", "ab")
    assert_sound(session_id)


def test_an_attempt_that_was_replaced_during_an_outage_writes_nothing(own_mariadb: tuple[MariaDB, Settings]) -> None:
    server, settings = own_mariadb
    session_id = make_session()
    hold = Hold()
    answer = Scripted("old", hold, " late", Hold())

    async def run() -> None:
        async with working(settings, answer) as runtime:
            running = asyncio.create_task(runtime.run(session_id))
            await answer.reached()
            await eventually(lambda: row(session_id).last_seq == 2, "the first text")
            server.kill9()
            hold.let_go()
            # Before the server takes any connection: as if another worker had been faster.
            with (server.folder / "init.sql").open("a") as init:
                init.write("UPDATE own.chatSessions SET attempt = attempt + 1, worker = 'worker-2';\n")
            await asyncio.to_thread(server.start)
            await running

    play(run())

    assert answer.closed.is_set()
    session = row(session_id)
    assert (session.status, session.attempt, session.last_seq) == ("running", 2, 2)
    assert "late" not in "".join(event["content"] for event in events_of(session_id))


def test_a_worker_that_stops_during_an_outage_ends_soon(own_mariadb: tuple[MariaDB, Settings]) -> None:
    server, settings = own_mariadb
    ending, going = make_session(), make_session()
    hold = Hold()
    first = threading.Event()

    async def answer(turn: Turn) -> AsyncIterator[Any]:
        yield "text"
        first.set()
        if turn.session_id == ending:
            await hold.wait()
            return
        await Hold().wait()

    async def run() -> float:
        async with working(settings, answer) as runtime:
            runs = asyncio.gather(runtime.run(ending), runtime.run(going))
            await eventually(lambda: row(ending).last_seq + row(going).last_seq == 4, "the first text of both")
            server.kill9()
            hold.let_go()
            started = time.monotonic()
            await runtime.drain(0.1)
            took = time.monotonic() - started
            runs.cancel()
            await asyncio.gather(runs, return_exceptions=True)
            return took

    assert play(run()) < 15
    server.start()
    assert [row(each).status for each in (ending, going)] == ["running", "running"]


def test_a_checkpoint_larger_than_a_packet_ends_its_own_session_alone(own_mariadb: tuple[MariaDB, Settings]) -> None:
    server, settings = own_mariadb
    server.execute("SET GLOBAL max_allowed_packet = 1048576")
    close_all(db.database.obj)
    large, small = make_session(), make_session()
    hold = Hold()

    async def answer(turn: Turn) -> AsyncIterator[Any]:
        yield "text"
        if turn.session_id == large:
            yield Checkpoint("x" * 3_000_000)
        await hold.wait()
        yield " and more"

    async def run() -> None:
        async with working(settings, answer) as runtime:
            runs = asyncio.gather(runtime.run(large), runtime.run(small))
            await eventually(lambda: row(large).status == "error", "the end of the large one")
            hold.let_go()
            await runs

    play(run(), 60)

    assert row(large).error_code == "checkpoint_too_large"
    assert row(small).final_response == "text and more"
    assert_sound(large)
    assert_sound(small)


def test_runs_wait_while_the_disk_is_full(tmp_path: Path, redis_server: RedisServer) -> None:
    bound = db.database.obj
    settings = Settings(
        database_url=f"sqlite:///{tmp_path / 'full.db'}", redis_url=redis_server.url, flush_ms=20, lease_s=60.0
    )
    text, hold = "x" * 100_000, Hold()

    def limit(pages: int) -> None:
        db.database.pragma("max_page_count", pages, permanent=True)
        db.database.close()

    async def run(session_id: str) -> None:
        async with working(settings, Scripted("begun", hold, text)) as runtime:
            running = asyncio.create_task(runtime.run(session_id))
            await eventually(lambda: row(session_id).last_seq == 2, "the first text")
            pages = db.reading(lambda: db.sql("PRAGMA page_count").fetchone()[0])
            limit(pages)
            hold.let_go()
            await asyncio.sleep(0.5)
            assert row(session_id).status == "running"
            limit(1_000_000)
            await running

    with opened(settings.database_url):
        session_id = make_session()
        play(run(session_id))
        assert (row(session_id).status, row(session_id).final_response) == ("done", "begun" + text)
        assert_sound(session_id)
        close_all(db.database.obj)
    db.database.initialize(bound)


LARGE_ARGUMENTS = {"text": "ж" * 1_000_000}


@pytest.mark.parametrize(
    "said",
    [
        [Thinking("x" * 16_384)] * 1_100,
        [ToolCall("c", "write", LARGE_ARGUMENTS), ToolCall("c", "write", LARGE_ARGUMENTS, "ok", True, 1)] * 4,
    ],
    ids=["reasoning", "arguments of tools"],
)
def test_a_session_whose_steps_together_are_larger_than_a_packet_ends_all_the_same(
    own_mariadb: tuple[MariaDB, Settings], said: list[Any]
) -> None:
    server, settings = own_mariadb
    server.execute("SET GLOBAL max_allowed_packet = 16777216")
    close_all(db.database.obj)
    ended, cancelled = make_session(), make_claim()
    for event in said:
        write(cancelled, event)

    answered(settings, Scripted(*said, "all"), ended)
    sessions.end(cancelled.session_id, Error("cancelled", "…"))

    assert (row(ended).status, row(ended).final_response) == ("done", "all")
    assert row(cancelled.session_id).error_code == "cancelled"


def test_a_session_whose_answer_is_as_large_as_it_may_be_ends_whatever_its_tools_were_told(
    own_mariadb: tuple[MariaDB, Settings],
) -> None:
    server, settings = own_mariadb
    server.execute("SET GLOBAL max_allowed_packet = 16777216")
    close_all(db.database.obj)
    # In SQL each of these is two characters.
    answer = "\n" * db.max_content_bytes(16 * 1024 * 1024)
    calls = [ToolCall("c", "write", LARGE_ARGUMENTS), ToolCall("c", "write", LARGE_ARGUMENTS, "ok", True, 1)] * 4
    session_id = make_session()

    answered(settings, Scripted(*calls, answer), session_id)

    assert (row(session_id).status, row(session_id).final_response == answer) == ("done", True)


@pytest.mark.parametrize("checkpoint", [[], [Delta("One. "), Checkpoint({"n": 1})]], ids=["none", "before"])
def test_what_was_withdrawn_no_longer_counts(settings: Settings, checkpoint: list[Any]) -> None:
    steps = [Thinking("a"), Delta("no "), Delta("answer"), Withdrawal(), Thinking("ano answer"), Delta("Yes.")]

    session_id = answered(settings, Scripted(*checkpoint, *steps))

    kept = "One. Yes." if checkpoint else "Yes."
    events = events_of(session_id)
    [mark] = [event for event in events if event.get("supersedesFrom")]
    counting = [e for e in events if e["seq"] < mark["supersedesFrom"] or e["seq"] >= mark["seq"]]
    assert shown(session_id)["finalResponse"] == kept
    assert "".join(event["content"] for event in counting if event["eventType"] == "delta") == kept
    assert "".join(event["content"] for event in counting if event["eventType"] == "thinking") == "ano answer"
    assert_sound(session_id)


def test_a_turn_that_fails_after_a_withdrawal_keeps_what_still_counts(settings: Settings) -> None:
    session_id = answered(
        settings, Scripted("no answer", Withdrawal(), "Half", TurnFailed("model_unavailable", "Gone."))
    )

    assert shown(session_id)["finalResponse"] == "Half"
    assert_sound(session_id)


def test_what_a_provider_said_is_kept_for_whoever_runs_the_deployment_and_shown_to_nobody(settings: Settings) -> None:
    failure = TurnFailed("model_auth", "The credentials were refused.", provider_said="401: no such org-7")

    session_id = answered(settings, Scripted("Half", failure))

    assert row(session_id).provider_said == "401: no such org-7"
    assert "org-7" not in repr((shown(session_id), events_of(session_id), messages_of(session_id)))
    assert_sound(session_id)
