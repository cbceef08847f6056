"""What the model is sent in a conversation, over real HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.factories import change
from tests.model_server import ModelServer
from tests.stage import Stage, Worker, saying, working
from worker.orchestrator import TurnFailed

Said = list[tuple[str, str]]


@pytest.fixture
def make_model_stage(make_stage: Callable[..., Stage], model_server: ModelServer) -> Callable[..., Stage]:
    def make(**fields: Any) -> Stage:
        return make_stage(
            openai_api_key="secret-key", openai_base_url=model_server.url, models="openai-chat:*", **fields
        )

    return make


def texts(request: Any) -> Said:
    """Roles and texts of what the model was sent."""
    return [(message["role"], message["content"] or "") for message in request["body"]["messages"]]


def ask(stage: Stage, worker: Worker, server: ModelServer, script: Any, message: str, **fields: Any) -> Any:
    model = server.add(script)
    session = stage.ask(worker, message, model=f"openai-chat:{model}", **fields)
    return session, server.requests(model)


def says(text: str) -> Any:
    return {"answers": [{"steps": [{"text": text}], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}]}


@pytest.mark.slow
def test_the_model_gets_exactly_the_complete_exchanges_of_thirty_turns(
    make_model_stage: Callable[..., Stage], model_server: ModelServer
) -> None:
    """Turn 7 fails, turn 12 is cancelled after its first words, turn 18 is resumed after its worker's death, turn 23
    calls a tool; none of that disturbs what the other turns are told."""
    stage = make_model_stage(model_timeout_s=20.0)
    instructions = ("system", "You are a helpful assistant. Answer in the language of the question.")
    expected: Said = []
    conversation: dict[str, str] = {}
    with working(stage.settings) as worker:
        for turn in range(1, 31):
            question, answer = f"Вопрос {turn}: how? 🙂", f"Answer {turn}, да."
            sent: Said = [instructions, *expected, ("user", question)]
            if turn == 7:
                broken = {"answers": [{"steps": [{"text": "Half an ans"}, {"cut": True}]}]}
                session, requests = ask(stage, worker, model_server, broken, question, **conversation)
                assert session["status"] == "error"
            elif turn == 12:
                session, requests = _cancelled(stage, worker, model_server, question, conversation)
            elif turn == 18:
                session, requests = _resumed(stage, worker, model_server, question, answer, conversation)
                assert session["attempt"] == 2
                expected += [("user", question), ("assistant", answer)]
            elif turn == 23:
                session, requests = _with_tool(stage, worker, model_server, question, answer, conversation)
                expected += [("user", question), ("assistant", answer)]
            else:
                session, requests = ask(stage, worker, model_server, says(answer), question, **conversation)
                expected += [("user", question), ("assistant", answer)]
            conversation = {"conversationId": session["conversationId"]}

            for request in requests:
                assert texts(request)[: len(sent)] == sent, turn
            assert len(texts(requests[0])) == len(sent), turn

    page = stage.get(f"/api/conversations/{conversation['conversationId']}/messages", limit=100)
    assert [message["role"] for message in page["messages"]] == ["user", "assistant"] * 30
    events = stage.history(conversation=conversation["conversationId"], limit=500)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    results = [event["metadata"]["status"] for event in events if event["eventType"] == "result"]
    assert (len(results), results.count("error")) == (30, 2)


def _cancelled(
    stage: Stage, worker: Worker, server: ModelServer, question: str, conversation: dict[str, str]
) -> tuple[Any, list[Any]]:
    model = server.add({"answers": [{"steps": [{"text": "Never mi"}, {"stall": True}]}]})
    session_id = stage.post(question, model=f"openai-chat:{model}", **conversation)["sessionId"]
    run = worker.start(session_id)
    while not stage.session(session_id)["lastSeq"] > 1:
        pass
    stage.cancel(session_id)
    run.result(20)
    return stage.session(session_id), server.requests(model)


def _resumed(
    stage: Stage, worker: Worker, server: ModelServer, question: str, answer: str, conversation: dict[str, str]
) -> tuple[Any, list[Any]]:
    """The first attempt says half and is taken over, as after the death of its worker."""
    stalls = {"steps": [{"text": answer[:5]}, {"stall": True}]}
    model = server.add({"answers": [stalls]})
    whole = server.add(says(answer))
    session_id = stage.post(question, model=f"openai-chat:{model}", **conversation)["sessionId"]
    first = worker.start(session_id)
    while not stage.session(session_id)["lastSeq"] > 1:
        pass
    change(session_id, lease_until_ms=1, model=f"openai-chat:{whole}")
    with working(stage.settings) as other:
        other.run(session_id)
    first.result(20)
    return stage.session(session_id), server.requests(model) + server.requests(whole)


def _with_tool(
    stage: Stage, worker: Worker, server: ModelServer, question: str, answer: str, conversation: dict[str, str]
) -> tuple[Any, list[Any]]:
    call = {"tool": {"index": 0, "id": "a", "name": "calculate", "arguments": '{"expression": "2 + 3"}'}}
    session, requests = ask(
        stage, worker, server, {"answers": [{"steps": [call]}, says(answer)["answers"][0]]}, question, **conversation
    )
    assert len(requests) == 2
    assert texts(requests[1])[-1] == ("tool", "5")
    return session, requests


AGENT = """
[[agents]]
id = 2
name = "Small"
instructions = "Be brief."
tools = [{tools}]
context_tokens = 1000
"""


@pytest.mark.parametrize(("tools", "hint"), [("", ""), ('"search_conversation"', "search_conversation")])
def test_what_falls_out_of_the_window_is_noted_and_the_newest_stays(
    make_model_stage: Callable[..., Stage], model_server: ModelServer, tmp_path: Path, tools: str, hint: str
) -> None:
    (tmp_path / "agents.toml").write_text(AGENT.format(tools=tools))
    stage = make_model_stage(agents_file=str(tmp_path / "agents.toml"))
    conversation: dict[str, str] = {}
    long = "word " * 100  # 167 tokens by our count
    with working(stage.settings) as worker:
        for number in range(6):
            session, requests = ask(
                stage, worker, model_server, says(f"a{number}"), f"u{number} {long}", agentId=2, **conversation
            )
            conversation = {"conversationId": session["conversationId"]}
        system, *said = texts(requests[0])

    assert [text[:2] for _, text in said] == ["u2", "a2", "u3", "a3", "u4", "a4", "u5"]
    assert system[0] == "system"
    assert system[1].startswith("Be brief.")
    assert "left out: 2." in system[1]
    assert ("search_conversation" in system[1]) == bool(hint)


def test_a_failed_turn_is_not_told_to_the_next(stage: Stage) -> None:
    told: list[Any] = []

    async def listen(turn: Any) -> Any:
        told.append([message.content for message in turn.history])
        yield "heard"

    with working(stage.settings, saying("part", TurnFailed("model_error", "broke"))) as worker:
        conversation_id = stage.ask(worker, "fails")["conversationId"]
    stage.cancel(stage.post("cancelled", conversationId=conversation_id)["sessionId"])
    with working(stage.settings, listen) as worker:
        stage.ask(worker, "first", conversationId=conversation_id)
        stage.ask(worker, "second", conversationId=conversation_id)

    assert told == [[], ["first", "heard"]]
