"""What retention deletes, what it keeps, and that nobody waits for it."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from app import db
from app.db import leases, schema
from app.db.models import AgentCount, AgentEvent, Conversation, Event, Session
from app.db.times import utc_now
from app.errors import Invalid
from app.events import Delta, Done, Thinking
from app.history import retention
from app.history.retention import Pruner
from app.sessions import adoption
from app.settings import Settings
from tests.factories import change, make_claim, write
from tests.servers import wait_until
from tests.stage import Echo, Stage, working

NEVER = 36_500


def keep(**fields: Any) -> Settings:
    """Settings that keep everything but what is given."""
    return Settings(
        **({"retention_days": NEVER, "event_retention_days": NEVER, "max_events_per_agent": 10**9} | fields)
    )


def pruner(now: datetime | None = None, holder: str = "me", **fields: Any) -> Pruner:
    return Pruner(holder, keep(**fields), now=lambda: now or utc_now())


def later(**span: float) -> datetime:
    return utc_now() + timedelta(**span)


def pruned(reason: str, table: str) -> float:
    labels = {"reason": reason, "table": table}
    return REGISTRY.get_sample_value("backchat_events_pruned_total", labels) or 0.0


def answered(stage: Stage, *messages: str, **fields: Any) -> list[str]:
    """Sessions that were answered, one after the other, each in a conversation of its own."""
    with working(stage.settings, Echo()) as worker:
        return [stage.ask(worker, message, **fields)["sessionId"] for message in messages]


def age(days: float) -> None:
    """Let all rows of history be so many days older."""
    for row in db.reading(lambda: list(AgentEvent.select())):
        moment = row.created_at - timedelta(days=days)
        update = AgentEvent.update(created_at=moment).where(AgentEvent.row_id == row.row_id)
        db.transaction(update.execute)


def prompts(stage: Stage) -> list[str]:
    return [event["content"] for event in stage.history(event_type="prompt_sent", limit=500)]


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several transactions even for the few rows of a test."""
    monkeypatch.setattr(retention, "_FEWEST", 3)
    monkeypatch.setattr(retention, "_FIRST", 3)
    monkeypatch.setattr(retention, "_MOST", 3)
    monkeypatch.setattr(retention, "_SESSIONS_AT_ONCE", 2)


# history


@pytest.mark.usefixtures("small_steps")
def test_rows_of_history_that_are_too_old_are_pruned_and_counted(stage: Stage) -> None:
    answered(stage, "old", "older")
    age(days=10)
    answered(stage, "new")
    before = pruned("retention_days", "chatAgentEvents")

    assert pruner(retention_days=9).prune()

    assert prompts(stage) == ["new"]
    assert stage.get("/api/agents/1/conversation")["total"] == 6
    assert stage.get("/api/agents/1/conversation/summary")["totalEvents"] == 6
    assert pruned("retention_days", "chatAgentEvents") - before == 12
    assert pruner(retention_days=9).prune()
    assert pruned("retention_days", "chatAgentEvents") - before == 12


@pytest.mark.usefixtures("small_steps")
def test_each_agent_keeps_its_newest_rows_also_one_that_is_no_longer_configured(stage: Stage) -> None:
    answered(stage, "one", "two", "three")
    rows = db.reading(lambda: list(AgentEvent.select().dicts()))
    gone = [
        row | {"row_id": None, "id": str(uuid4()), "agent_id": 77, "conversation_id": "other", "seq": seq}
        for seq, row in enumerate(rows, start=1)
    ]
    counted = [row | {"agent_id": 77} for row in db.reading(lambda: list(AgentCount.select().dicts()))]
    db.transaction(lambda: AgentEvent.insert_many(gone).execute())
    db.transaction(lambda: AgentCount.insert_many(counted).execute())
    before = pruned("max_events_per_agent", "chatAgentEvents")

    assert pruner(max_events_per_agent=8).prune()

    assert len(stage.history()) == stage.get("/api/agents/1/conversation")["total"] == 8
    assert [event["eventType"] for event in stage.history()][:2] == ["result", "activity_changed"]
    assert prompts(stage) == ["three"]
    others = AgentEvent.select().where(AgentEvent.agent_id == 77)
    assert db.reading(others.count) == 8
    assert pruned("max_events_per_agent", "chatAgentEvents") - before == 20


@pytest.mark.usefixtures("small_steps")
def test_rows_of_a_running_session_stay_however_old(stage: Stage) -> None:
    claim = make_claim(stage.post("runs")["sessionId"])
    answered(stage, "ended")
    age(days=100)

    assert pruner(retention_days=1, max_events_per_agent=1).prune()

    assert [event["content"] for event in stage.history()] == ["runs", "busy"]
    write(claim, Done("answer"))
    assert [event["seq"] for event in stage.history()] == [1, 2, 3, 4, 5]


def test_seqs_go_on_after_the_rows_were_pruned(stage: Stage) -> None:
    conversation_id = str(uuid4())
    answered(stage, "one", conversationId=conversation_id)
    assert pruner(now=later(days=2), retention_days=1).prune()
    assert stage.history() == []

    answered(stage, "two", conversationId=conversation_id)

    assert [event["seq"] for event in stage.history()] == [7, 8, 9, 10, 11, 12]


# events


@pytest.mark.usefixtures("small_steps")
def test_the_events_of_long_ended_sessions_go_and_their_rows_and_messages_stay(stage: Stage) -> None:
    old = answered(stage, "a", "b", "c", "d", "e")
    running = make_claim(stage.post("runs")["sessionId"])
    write(running, Thinking(""), Delta("x"))
    for session_id in [*old[:4], running.session_id]:
        change(session_id, created_at=later(days=-30))
    for session_id in old[:4]:
        change(session_id, ended_at=later(days=-10))
    events = db.reading(lambda: Event.select().where(Event.session_id.in_(old[:4])).count())
    before = pruned("event_retention_days", "chatEvents")

    assert pruner(event_retention_days=9).prune()

    for session_id in old[:4]:
        problem = stage.get(f"/api/chat/session/{session_id}/events", 410)
        assert problem["code"] == "gone"
        session = stage.get(problem["finalAnswer"])
        assert session["finalResponse"] == f"re: {session['userMessage']}"
        assert len(stage.get(problem["messages"])["messages"]) == 2
        stage.get(f"/api/chat/session/{session_id}/stream", 410)
    assert len(stage.get(f"/api/chat/session/{old[4]}/events")["events"]) > 1
    assert len(stage.get(f"/api/chat/session/{running.session_id}/events")["events"]) == 2
    assert len(stage.get("/api/chat/sessions")["sessions"]) == 6
    assert db.reading(lambda: Event.select().where(Event.session_id.in_(old[:4])).count()) == 0
    assert pruned("event_retention_days", "chatEvents") - before == events


@pytest.mark.usefixtures("small_steps")
def test_a_pruning_that_was_cut_short_is_finished_by_the_next_one(stage: Stage) -> None:
    [session_id] = answered(stage, "a")
    claim = make_claim(stage.post("many")["sessionId"])
    write(claim, *(Thinking(str(number)) for number in range(20)), Done("answer"))
    many = claim.session_id
    first = pruner(now=later(days=2), event_retention_days=1)
    steps = 0
    clock = iter(range(10**6))

    def stop_soon() -> float:
        nonlocal steps
        steps += 1
        if steps == 12:
            first.stop()
        return float(next(clock)) / 1000

    first._clock = stop_soon  # type: ignore[method-assign]
    assert not first.prune()
    left = db.reading(lambda: Event.select().where(Event.session_id.in_([session_id, many])).count())
    assert left > 0
    stage.get(f"/api/chat/session/{many}/events", 410)

    assert pruner(now=later(days=2), event_retention_days=1).prune()

    assert db.reading(lambda: Event.select().count()) == 0
    assert stage.session(many)["finalResponse"] == "answer"


def test_the_events_of_adopted_sessions_stay(stage: Stage) -> None:
    old = {"session_id": "old", "status": "done", "user_message": "Hello?", "final_response": "x", "last_seq": 1}
    db.transaction(lambda: Session.insert(**old, ended_at=later(days=-1000)).execute())
    db.transaction(lambda: Event.insert(session_id="old", seq=1, event_type="done", content="x").execute())

    assert pruner(event_retention_days=1).prune()

    assert len(stage.get("/api/chat/session/old/events")["events"]) == 1


# who prunes and when


def test_one_process_prunes_at_a_time(stage: Stage) -> None:
    answered(stage, "old")
    assert leases.take("retention", "another", 60)

    assert not pruner(now=later(days=2), retention_days=1).prune()
    assert len(stage.history()) == 6

    assert leases.take("retention", "another", -1)
    assert pruner(now=later(days=2), retention_days=1).prune()
    assert stage.history() == []


def test_a_worker_prunes_at_its_start_and_then_at_each_interval(stage: Stage) -> None:
    answered(stage, "old")
    age(days=100)
    settings = Settings(
        database_url=stage.settings.database_url, redis_url=stage.settings.redis_url, cleanup_interval_s=1
    )

    with working(settings, Echo(), sweeps=True) as worker:
        wait_until(lambda: stage.history() == [], "the first pruning")
        worker.run(stage.post("again")["sessionId"])
        age(days=100)
        wait_until(lambda: stage.history() == [], "the second pruning")


def test_a_year_of_the_far_future_keeps_everything(stage: Stage) -> None:
    answered(stage, "one")

    assert pruner(retention_days=10**12, event_retention_days=10**12, max_events_per_agent=10**18).prune()

    assert len(stage.history()) == 6


# nobody waits


@pytest.fixture
def many_rows(stage: Stage) -> int:
    """Enough rows of history and events for some hundred transactions."""
    [session_id] = answered(stage, "old")
    change(session_id, ended_at=later(days=-1000), last_seq=6_000)
    [template] = db.reading(lambda: list(AgentEvent.select().limit(1).dicts()))
    template |= {"created_at": later(days=-1000)}
    rows = [template | {"row_id": None, "id": str(uuid4()), "seq": 1000 + number} for number in range(5_000)]
    events = [{"session_id": session_id, "seq": 100 + n, "event_type": "delta", "content": "x"} for n in range(5_000)]
    for start in range(0, 5_000, 500):
        chunk, more = rows[start : start + 500], events[start : start + 500]
        db.transaction(lambda chunk=chunk: AgentEvent.insert_many(chunk).execute())
        db.transaction(lambda more=more: Event.insert_many(more).execute())
    return 5_000


@pytest.mark.slow
def test_appends_are_not_delayed_by_pruning(stage: Stage, many_rows: int) -> None:
    claim = make_claim(stage.post("runs")["sessionId"])
    due = pruner(retention_days=1, event_retention_days=1)
    ended = threading.Event()

    def prune() -> None:
        try:
            due.prune()
        finally:
            ended.set()

    pruning = threading.Thread(target=prune)
    delays: list[float] = []
    pruning.start()
    while not ended.is_set():
        started = perf_counter()
        write(claim, Delta("x"))
        delays.append(perf_counter() - started)
    pruning.join()

    assert db.reading(lambda: AgentEvent.select().where(AgentEvent.seq >= 1000).count()) == 0
    assert db.reading(lambda: Event.select().where(Event.session_id != claim.session_id).count()) == 0
    assert len(delays) > 20
    # A busy machine may stall any one of them; pruning itself must not.
    assert sorted(delays)[int(len(delays) * 0.98)] < 0.2


def test_conversations_and_their_messages_are_never_pruned(stage: Stage) -> None:
    answered(stage, "one", "two")

    assert pruner(now=later(days=400), retention_days=1, event_retention_days=1, max_events_per_agent=1).prune()

    assert db.reading(lambda: Conversation.select().count()) == 2
    assert stage.history() == []
    assert [each["messageCount"] for each in stage.get("/api/conversations")["conversations"]] == [2, 2]


# agents that left, sessions that came


@pytest.mark.usefixtures("small_steps")
def test_the_history_of_an_agent_that_left_goes_where_that_is_set(make_stage: Any, tmp_path: Path) -> None:
    file = tmp_path / "agents.toml"
    file.write_text('[[agents]]\nid = 2\nname = "Two"\n')
    stage = make_stage(agents_file=str(file))
    answered(stage, "one")
    answered(stage, "two", agentId=2)

    assert pruner().prune()
    assert len(stage.history(2)) > 0
    assert Pruner("me", keep(), agents={1, 2}).prune()
    assert len(stage.history(2)) > 0
    assert Pruner("me", keep(), agents={1}).prune()

    assert stage.history(2) == []
    assert prompts(stage) == ["one"]
    assert db.reading(lambda: AgentCount.select().where((AgentCount.agent_id == 2) & (AgentCount.n != 0)).count()) == 0


@pytest.mark.parametrize(("value", "agents"), [("", None), ("off", None), ("on", {1})])
def test_a_worker_forgets_agents_only_when_it_is_told_to(stage: Stage, value: str, agents: set[int] | None) -> None:
    settings = replace(stage.settings, forget_removed_agents=value)
    with working(settings, Echo()) as worker:
        assert worker.process._pruner._agents == agents


def test_neither_yes_nor_no_is_refused() -> None:
    with pytest.raises(Invalid, match="FORGET_REMOVED_AGENTS"):
        _ = Settings(forget_removed_agents="maybe").forgets_removed_agents


def test_events_of_adopted_sessions_are_kept(original: str) -> None:
    schema.migrate()
    adoption.adopt("local")
    before = db.reading(Event.select().count)

    assert Pruner("me", Settings()).prune()

    assert db.reading(Event.select().count) == before
