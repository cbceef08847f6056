"""Vercel's AI SDK on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.events import Done, Thinking, ToolCall, Usage
from tests.stage import Echo, Held, Stage, saying, working
from worker.orchestrator import Checkpoint, Withdrawal

CALL = ToolCall("c1", "add", {"a": 1})
RESULT = ToolCall("c1", "add", {"a": 1}, tool_result="2", tool_success=True)
SEVEN = {"X-Backchat-Ui": "7"}


def user(text: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"m-{text}", "role": "user", "parts": [{"type": "text", "text": text}]} | fields


def assistant(text: str) -> dict[str, Any]:
    return {"id": "a", "role": "assistant", "parts": [{"type": "step-start"}, {"type": "text", "text": text}]}


def send(
    stage: Stage, *messages: Any, status: int = 200, headers: Any = None, chat: str = "chat-1", **more: Any
) -> Any:
    body = {"id": chat, "messages": [*messages]} | more
    response = stage.client.post("/api/ai/chat", json=body, headers=headers or SEVEN)
    assert response.status_code == status, response.text
    return response


def chunks(text: str) -> list[Any]:
    frames = [frame.removeprefix("data: ") for frame in text.split("\n\n") if frame.startswith("data: ")]
    assert frames[-1] == "[DONE]"
    return [json.loads(frame) for frame in frames[:-1]]


def answered(stage: Stage, answer: Any, *messages: Any, **more: Any) -> list[Any]:
    with working(stage.settings, answer) as worker:
        response = send(stage, *(messages or [user("Hello?")]), **more)
        worker.run(response.headers["X-Workflow-Run-Id"])
        return chunks(response.text)


def test_an_answer_streams_and_any_index_gives_the_rest(stage: Stage) -> None:
    whole = answered(stage, saying(Thinking("hm"), CALL, RESULT, "При", "вет 🙂", Done(usage=Usage(10, 5))))
    session_id = whole[0]["messageId"]

    assert [chunk["type"] for chunk in whole[:6]] == [
        "start", "reasoning-start", "reasoning-delta", "reasoning-end", "tool-input-available", "tool-output-available",
    ]  # fmt: skip
    assert "".join(chunk["delta"] for chunk in whole if chunk["type"] == "text-delta") == "Привет 🙂"
    assert (whole[-1]["finishReason"], whole[-1]["messageMetadata"]["usage"]["totalTokens"]) == ("stop", 15)
    for index in range(len(whole)):
        rest = stage.client.get(f"/api/ai/chat/{session_id}/stream?startIndex={index}", headers=SEVEN)
        assert chunks(rest.text) == whole[index:]
    tail = stage.client.get(f"/api/ai/chat/{session_id}/stream?startIndex=-2", headers=SEVEN)
    assert (chunks(tail.text), tail.headers["X-Workflow-Stream-Tail-Index"]) == (whole[-2:], str(len(whole) - 1))


def test_only_a_client_that_says_so_is_told_to_reset(stage: Stage) -> None:
    answer = saying("a ", Checkpoint(0), "lost", Withdrawal(), "lost and found")
    seven = answered(stage, answer)
    six = answered(stage, answer, chat="chat-2", headers={"X-Backchat-Ui": ""})

    assert "reset-step" in {chunk["type"] for chunk in seven}
    assert "reset-step" not in {chunk["type"] for chunk in six}
    assert "".join(chunk["delta"] for chunk in six if chunk["type"] == "text-delta") == "a lost and found"


def test_a_chat_goes_on_with_its_own_history_or_with_what_the_client_shows_instead(stage: Stage) -> None:
    echo = Echo()
    answered(stage, echo, user("One"))
    answered(stage, echo, user("One"), assistant("re: One"), user("Two"))
    answered(stage, echo, user("Three"))
    edited = [user("Uno"), assistant("re: Uno"), user("Four")]
    answered(stage, echo, *edited, trigger="regenerate-message", messageId="a")

    histories = {turn.message: [each.content for each in turn.history] for turn in echo.turns}
    assert histories == {
        "One": [],
        "Two": ["One", "re: One"],
        "Three": ["One", "re: One", "Two", "re: Two"],
        "Four": ["Uno", "re: Uno"],
    }


def test_a_chat_is_shown_again_as_it_was_seen(stage: Stage) -> None:
    answered(stage, saying(Thinking("hm"), CALL, RESULT, "Да"))

    question, answer = stage.get("/api/ai/chat/chat-1/messages")

    assert (question["role"], question["parts"]) == ("user", [{"type": "text", "text": "Hello?"}])
    assert answer["parts"] == [
        {"type": "reasoning", "text": "hm", "state": "done"},
        {
            "type": "dynamic-tool",
            "toolName": "add",
            "toolCallId": "c1",
            "input": {"a": 1},
            "providerExecuted": True,
            "state": "output-available",
            "output": "2",
        },
        {"type": "text", "text": "Да", "state": "done"},
    ]
    stage.get("/api/ai/chat/chat-2/messages", 404)


def test_what_runs_is_resumed_from_its_first_chunk_and_stopped(stage: Stage) -> None:
    held = Held("part", Checkpoint(0))
    stage.get("/api/ai/chat/chat-1/stream", 204)
    with working(stage.settings, held) as worker:
        session_id = send(stage, user("Hello?")).headers["X-Workflow-Run-Id"]
        run = worker.start(session_id)
        assert held.said.wait(20)
        while stage.session(session_id)["lastSeq"] < 2:
            pass
        resumed = stage.client.get("/api/ai/chat/chat-1/stream", headers=SEVEN)
        stage.call("POST", "/api/ai/chat/chat-1/stop", 204)
        seen = chunks(resumed.text)
        run.result(20)

    assert [chunk["type"] for chunk in seen][-2:] == ["abort", "finish"]
    assert "part" in {chunk.get("delta") for chunk in seen}
    stage.get("/api/ai/chat/chat-1/stream", 204)
    stage.call("POST", "/api/ai/chat/chat-1/stop", 204)


def test_a_repeated_request_is_one_session_and_a_regeneration_another(stage: Stage) -> None:
    one, same = (send(stage, user("Hello?")).headers["X-Workflow-Run-Id"] for _ in range(2))
    again = send(stage, user("Hello?"), trigger="regenerate-message").headers["X-Workflow-Run-Id"]

    assert one == same != again


@pytest.mark.parametrize(
    ("messages", "detail"),
    [
        ([], "the last message must be the user's"),
        ([assistant("x")], "the last message must be the user's"),
        ([{"role": "user", "parts": [{"type": "file", "url": "x"}]}], "not 'file'"),
        ([{"role": "user", "content": "x"}], "a role and parts"),
        ([{"role": "user", "parts": [{"type": "text", "text": " "}]}], "not blank"),
    ],
)
def test_what_can_not_be_taken_is_said(stage: Stage, messages: list[Any], detail: str) -> None:
    error = send(stage, *messages, status=400)

    assert error.mimetype == "application/json"
    assert detail in error.json["message"]
