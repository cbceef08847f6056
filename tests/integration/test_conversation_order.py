"""Many messages at once in one conversation, and the death of the worker in the middle of a turn."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest

from tests.factories import at_once, failures
from tests.model_server import ModelServer
from tests.servers import Process, RedisServer, wait_until
from tests.stage import Echo, Held, Stage, working


def post_at_once(stage: Stage, how_many: int, conversation_id: str, **fields: Any) -> list[Any]:
    """The responses to so many messages that were posted together."""

    def post(number: int) -> Any:
        body = {"message": f"message {number}", "conversationId": conversation_id, **fields}
        return stage.client.application.test_client().post("/api/chat/session", json=body)

    responses = at_once([lambda number=number: post(number) for number in range(how_many)])
    assert failures(responses) == []
    return responses


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_messages_at_once_are_answered_one_after_the_other_in_order(
    stage: Stage, redis_server: RedisServer, make_forked: Callable[..., Process]
) -> None:
    conversation_id = str(uuid4())
    worker = make_forked(
        "worker",
        DATABASE_URL=stage.settings.database_url,
        REDIS_URL=redis_server.url,
        ORCHESTRATOR="tests.sample_orchestrators:echo",
    )
    worker.wait_for_line("worker started")

    responses = post_at_once(stage, 100, conversation_id)

    assert [response.status_code for response in responses] == [202] * 100
    path = f"/api/conversations/{conversation_id}"
    wait_until(lambda: stage.get(path)["messageCount"] == 200, "two hundred messages", 200)
    worker.stop()
    sessions = stage.get("/api/chat/sessions", limit=100, conversationId=conversation_id)["sessions"][::-1]
    assert [session["finalResponse"] for session in sessions] == [
        f"re: {session['userMessage']} after {number}" for number, session in enumerate(sessions)
    ]
    for earlier, later in pairwise(sessions):
        assert earlier["endedAt"] <= later["startedAt"]
    questions = [m["content"] for m in stage.messages(conversation_id, limit=200) if m["role"] == "user"]
    assert questions == [session["userMessage"] for session in sessions]
    told = stage.history(conversation=conversation_id, limit=500)
    assert [event["seq"] for event in told] == list(range(1, 501))
    assert [event["eventType"] for event in told] == [
        "prompt_sent", "activity_changed", "output", "result", "activity_changed",
    ] * 100  # fmt: skip
    assert [event["content"] for event in told if event["eventType"] == "prompt_sent"] == questions
    assert stage.get("/api/agents/1/conversation", conversation=conversation_id)["total"] == 500
    assert stage.get("/api/agents/1/conversation")["total"] == 500


def test_reject_lets_exactly_one_of_a_hundred_through(stage: Stage) -> None:
    conversation_id = str(uuid4())

    responses = post_at_once(stage, 100, conversation_id, onBusy="reject")

    [accepted] = [response.json for response in responses if response.status_code == 202]
    refused = [response.json for response in responses if response.status_code == 409]
    assert len(refused) == 99
    assert {problem["code"] for problem in refused} == {"conversation_busy"}
    assert {problem["sessionId"] for problem in refused} == {accepted["sessionId"]}
    assert stage.get(f"/api/conversations/{conversation_id}/messages")["total"] == 1


def test_interrupt_cancels_what_runs_keeps_its_part_and_then_runs(stage: Stage) -> None:
    held, echo = Held("half"), Echo()
    with working(stage.settings, held) as worker:
        running = stage.post("slow")
        waiting = stage.post("waits", conversationId=running["conversationId"])
        run = worker.start(running["sessionId"])
        assert held.said.wait(20)
        while stage.session(running["sessionId"])["lastSeq"] < 2:
            pass

        stage.post("now", conversationId=running["conversationId"], onBusy="interrupt")

        run.result(20)
    with working(stage.settings, echo) as worker:
        next_one = stage.get("/api/chat/sessions")["sessions"][0]
        worker.run(next_one["sessionId"])
    ended = [stage.session(each["sessionId"]) for each in (running, waiting)]
    assert [(each["errorCode"], each["finalResponse"]) for each in ended] == [("cancelled", "half"), ("cancelled", "")]
    assert echo.turns[0].history == ()
    said = [(message["role"], message["content"]) for message in stage.messages(running["conversationId"])]
    assert said == [
        ("user", "slow"),
        ("user", "waits"),
        ("assistant", "half"),
        ("assistant", "interrupted by the next message"),
        ("user", "now"),
        ("assistant", "re: now"),
    ]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_killed_in_mid_turn_leaves_one_answer_and_a_gapless_history(
    make_stage: Callable[..., Stage],
    model_server: ModelServer,
    redis_server: RedisServer,
    make_forked: Callable[..., Process],
) -> None:
    stage = make_stage(models="openai-chat:*")
    call = {"tool": {"index": 0, "id": "a", "name": "calculate", "arguments": '{"expression": "2 + 3"}'}}
    answer = {"steps": [{"text": "It is "}, {"delay": 4}, {"text": "5."}]}
    model = model_server.add({"answers": [{"steps": [{"reasoning": "hm"}, call]}, answer]})
    environment = {
        "DATABASE_URL": stage.settings.database_url,
        "REDIS_URL": redis_server.url,
        "OPENAI_API_KEY": "secret-key",
        "OPENAI_BASE_URL": model_server.url,
        "MODELS": "openai-chat:*",
        "LEASE_S": "2",
        "SWEEP_S": "0.5",
    }
    first = make_forked("worker", **environment)
    first.wait_for_line("worker started")
    started = stage.post("What is 2 + 3?", model=f"openai-chat:{model}")
    path = f"/api/chat/session/{started['sessionId']}/events"
    wait_until(lambda: any(event["eventType"] == "delta" for event in stage.get(path)["events"]), "the first words")

    first.kill9()
    second = make_forked("worker", **environment)

    wait_until(lambda: stage.session(started["sessionId"])["status"] != "running", "the answer")
    second.stop()
    session = stage.session(started["sessionId"])
    assert (session["status"], session["finalResponse"], session["attempt"]) == ("done", "It is 5.", 2)
    said = stage.messages(started["conversationId"])
    assert [(message["role"], message["content"]) for message in said] == [
        ("user", "What is 2 + 3?"),
        ("assistant", "It is 5."),
    ]
    assert [each["toolName"] for each in said[1]["metadata"]["toolCalls"]] == ["calculate"]
    told = stage.history()
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
    assert [event["eventType"] for event in told if event["eventType"] != "usage_update"] == [
        "prompt_sent", "activity_changed", "thinking", "tool_use", "output", "result", "activity_changed",
    ]  # fmt: skip
