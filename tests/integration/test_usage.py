"""Usage as it happens: whatever ends a session leaves what it had used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app import db, sessions
from app.events import Delta, Done, Error, OpenRequest, Thinking, Usage
from app.sessions import claims
from app.sessions.claims import Claim
from app.sessions.commit import Batch
from tests.factories import (
    change,
    events_of,
    make_claim,
    make_session,
    messages_of,
    orphan,
    record,
    retried,
    row,
    shown,
    try_claim,
    write,
)
from tests.model_server import ModelServer
from tests.servers import wait_until
from tests.stage import Held, Stage, saying, working
from tests.turns import answer, make_settings
from worker.engine import failures
from worker.engine.failures import MAX_TRIES
from worker.orchestrator import Asked, Checkpoint, TurnFailed

#: What the sessions of these tests have used at a checkpoint, and the estimate of the request that is open then.
COUNTED = Usage(100, 20, 8, 2)
OPEN = Usage(40, 3, estimated=True)


def cut_off(said: str = "twelve chars") -> Claim:
    """A session that has used `COUNTED` and has a request open that has said *said*."""
    claim = make_claim()
    record(Batch(claim, 0, [Thinking(""), Delta("counted before")], ("{}", 2), used=(COUNTED, None)))
    record(Batch(claim, 2, [], used=(COUNTED, OpenRequest(40))))
    write(claim, Delta(said))
    return claim


def used(session_id: str) -> Usage:
    stored = row(session_id)
    counts = stored.input_tokens, stored.output_tokens, stored.cache_read_tokens, stored.cache_write_tokens
    return Usage.of(counts, cost=stored.cost, estimated=bool(stored.usage_estimated))


ENDS: dict[str, Callable[[Claim], object]] = {
    "cancelled": lambda claim: sessions.end(claim.session_id, Error("cancelled", "stopped")),
    "by its worker from outside": lambda claim: sessions.end_attempt(
        claim.session_id, claim.attempt, Error("cancelled", "stopped", content="it says")
    ),
    "out of time": lambda claim: (
        change(claim.session_id, deadline_ms=db.now_ms(-1000)),
        sessions.end_overdue(claim.session_id, claim.attempt, Error("timeout", "late")),
    ),
    "without workers": lambda claim: (
        orphan(claim.session_id),
        sessions.end_orphaned(claim.session_id, claim.attempt, Error("worker_lost", "lost")),
    ),
}


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("end", ENDS)
def test_whoever_ends_a_session_leaves_what_it_used_and_an_estimate_of_what_was_cut_off(end: str) -> None:
    claim = cut_off()

    ENDS[end](claim)

    last = events_of(claim.session_id)[-1]
    assert last["usageJson"] == (COUNTED + OPEN).to_json()
    assert last["usageJson"]["estimated"] is True
    assert used(claim.session_id) == COUNTED + OPEN
    assert shown(claim.session_id)["totalTokens"] == 163
    assert shown(claim.session_id)["usageEstimated"] is True
    assert row(claim.session_id).open_request is None


@pytest.mark.usefixtures("store")
def test_what_a_dead_attempt_had_open_is_counted_once_however_many_follow() -> None:
    session_id = cut_off().session_id

    for _ in range(2):
        orphan(session_id)
        claim = try_claim(session_id, max_attempts=9)
        assert claim is not None
        assert claim.used == COUNTED + OPEN

    write(claim, Done("answer", usage=claim.used + Usage(1, 1)))
    assert used(session_id) == COUNTED + OPEN + Usage(1, 1)


@pytest.mark.usefixtures("store")
def test_a_session_that_is_handed_back_keeps_the_request_that_was_cut_off() -> None:
    claim = cut_off()

    claims.hand_back(claim)

    again = try_claim(claim.session_id)
    assert again is not None
    assert again.used == COUNTED + OPEN


@pytest.mark.usefixtures("store")
def test_a_flush_that_is_written_twice_counts_once() -> None:
    claim = make_claim()
    batch = Batch(claim, 0, [Thinking("")], used=(COUNTED, OpenRequest(40)))

    record(batch)
    record(retried(batch))

    assert used(claim.session_id) == COUNTED


@pytest.mark.usefixtures("store")
def test_a_session_of_which_nothing_is_known_has_used_nothing() -> None:
    session_id = make_session()

    sessions.end(session_id, Error("cancelled", "stopped"))

    [event] = events_of(session_id)
    assert event["usageJson"] is None


def test_each_request_is_in_the_row_with_its_checkpoint(stage: Stage) -> None:
    held = Held(Asked(9), Usage(10, 2), Checkpoint({}), Usage(5, 1), Checkpoint({}))
    with working(stage.settings, held) as worker:
        session_id = stage.post("Hello?")["sessionId"]
        run = worker.start(session_id)
        assert held.said.wait(30)

        assert used(session_id) == Usage(15, 3)
        assert stage.session(session_id)["status"] == "running"
        held.may_end.set()
        run.result(30)

    assert stage.session(session_id)["totalTokens"] == 18


def test_a_turn_that_fails_tells_what_it_used_as_one_that_is_done_does(stage: Stage) -> None:
    steps = [Asked(10), "partial", Usage(10, 2), TurnFailed("model_error", "It broke.")]
    with working(stage.settings, saying(*steps)) as worker:
        session = stage.ask(worker, "Hello?")

    assert (session["errorCode"], session["totalTokens"], session["usageEstimated"]) == ("model_error", 12, False)
    [*_, error] = events_of(session["sessionId"])
    assert error["usageJson"] == Usage(10, 2).to_json()
    [_, said] = stage.messages(session["conversationId"])
    assert said["metadata"]["tokenUsage"]["total"] == 12


def test_a_request_is_known_to_be_open_before_the_model_has_said_anything(stage: Stage) -> None:
    held = Held(Asked(400))
    with working(stage.settings, held) as worker:
        session_id = stage.post("Hello?")["sessionId"]
        run = worker.start(session_id)
        assert held.said.wait(30)
        wait_until(lambda: row(session_id).open_request is not None, "the request is stored")

        assert stage.cancel(session_id)["inputTokens"] == 400
        run.result(30)

    assert len(messages_of(session_id)) == 2


#: What the model's server does, and what becomes of the request: counted as told, as nothing, or left open.
REQUESTS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "answers": ({"steps": [{"text": "Hi"}], "usage": {"prompt_tokens": 10, "completion_tokens": 2}}, [Usage(10, 2)]),
    "tells no usage": ({"steps": [{"text": "Hi"}], "usage": None}, []),
    "refuses": ({"fault": {"status": 400}}, [Usage()]),
    "can't be reached": ({"fault": {"cut": True}}, [Usage()] * MAX_TRIES),
    "breaks off": ({"steps": [{"text": "Half an ans"}, {"cut": True}]}, []),
}


@pytest.mark.parametrize("api", ["openai-chat", "openai"])
@pytest.mark.parametrize("what", REQUESTS)
def test_the_engine_says_of_each_request_what_it_took(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch, api: str, what: str
) -> None:
    monkeypatch.setattr(failures, "FIRST_PAUSE_S", 0.01)
    script, counted = REQUESTS[what]
    model = f"{api}:{model_server.add({'answers': [script]})}"

    turn = answer(make_settings(model_server), model, message="x" * 4_000)

    assert turn.of(Usage) == counted
    asked = turn.of(Asked)
    assert len(asked) == max(1, len(counted))
    assert {each.model for each in asked} == {model}
    assert 1_000 <= asked[0].input_tokens <= 1_100
