"""OpenAI's chat completions on the wire."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from app.events import Done, Thinking, ToolCall, Usage
from app.parameters import Parameters
from tests.stage import Echo, Stage, saying, working
from worker.orchestrator import Checkpoint, TurnFailed, Withdrawal

SECRET = "one:0123456789abcdef0123456789abcdef"
CALL = ToolCall("c1", "add", {"a": 1})
RESULT = ToolCall("c1", "add", {"a": 1}, tool_result="2", tool_success=True)
ASKED = [{"role": "user", "content": "Hello?"}]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "agent-1", "messages": ASKED} | fields


def stream(stage: Stage, answer: Any, **fields: Any) -> list[Any]:
    """The chunks of a streamed call; the last is `[DONE]` if it came."""
    with working(stage.settings, answer) as worker:
        response = stage.client.post("/v1/chat/completions", json=body(stream=True, **fields))
        assert response.status_code == 200, response.text
        assert response.mimetype == "text/event-stream"
        worker.run(response.headers["X-Backchat-Session"])
        frames = [frame for frame in response.text.split("\n\n") if frame.startswith("data: ")]
    said = [frame.removeprefix("data: ") for frame in frames]
    return [each if each == "[DONE]" else json.loads(each) for each in said]


def whole(stage: Stage, answer: Any, status: int = 200, **fields: Any) -> Any:
    """The answer of a call that is not streamed."""
    with working(stage.settings, answer) as worker:
        got: list[Any] = []
        client = stage.client.application.test_client()
        asking = threading.Thread(target=lambda: got.append(client.post("/v1/chat/completions", json=body(**fields))))
        asking.start()
        while not (rows := stage.get("/api/chat/sessions")["sessions"]):
            pass
        worker.run(rows[0]["sessionId"])
        asking.join(30)
    [response] = got
    assert response.status_code == status, response.text
    return response


def deltas(chunks: list[Any], name: str = "content") -> str:
    given = [chunk["choices"][0]["delta"] for chunk in chunks if chunk != "[DONE]" and chunk.get("choices")]
    return "".join(delta.get(name) or "" for delta in given)


def test_an_answer_streams_with_its_reasoning_and_without_its_tools(stage: Stage) -> None:
    done = Done(usage=Usage(10, 5, 3, 1), finish_reason="length")
    answer = saying(Thinking("hm"), CALL, RESULT, "При", "вет 🙂", done)
    chunks = stream(stage, answer, stream_options={"include_usage": True})

    *_, finish, usage, last = chunks
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert (deltas(chunks), deltas(chunks, "reasoning_content")) == ("Привет 🙂", "hm")
    assert finish["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 3},
    }
    assert last == "[DONE]"
    assert len({(chunk["id"], chunk["object"], chunk["model"]) for chunk in chunks[:-1]}) == 1
    assert "add" not in json.dumps(chunks)


@pytest.mark.parametrize(
    ("again", "shown"),
    [
        ("Hello world", "Hello world"),
        ("Help", "Hello wor\n\n[The run was interrupted. Again from here:]\n\nHelp"),
        ("Hel", "Hello wor\n\n[The run was interrupted. Again from here:]\n\nHel"),
    ],
)
def test_text_that_is_superseded_is_not_shown_twice(stage: Stage, again: str, shown: str) -> None:
    chunks = stream(stage, saying("Hello wor", CALL, Withdrawal(), again))

    assert deltas(chunks) == shown
    assert chunks[-1] == "[DONE]"


def test_a_whole_answer_has_what_streams(stage: Stage) -> None:
    answer = whole(
        stage, saying(Thinking("hm"), Checkpoint(0), "lost", Withdrawal(), "Привет 🙂", Done(usage=Usage(10, 5)))
    ).json

    choice = answer["choices"][0]
    said = {"content": "Привет 🙂", "reasoning_content": "hm"}
    assert choice["message"] == {"role": "assistant", "refusal": None} | said
    assert (answer["object"], choice["finish_reason"]) == ("chat.completion", "stop")
    assert answer["usage"]["total_tokens"] == 15


def test_a_failed_run_is_an_error_that_is_not_to_be_repeated(stage: Stage) -> None:
    response = whole(stage, saying("part", TurnFailed("model_auth", "Refused.")), 502)

    assert response.headers["x-should-retry"] == "false"
    assert response.json["error"] == {
        "message": "model_auth: Refused.",
        "type": "server_error",
        "param": None,
        "code": "model_auth",
    }
    assert stage.get("/api/chat/sessions")["sessions"][0]["finalResponse"] == "part"


def test_a_run_that_fails_while_it_streams_ends_with_an_error(stage: Stage) -> None:
    chunks = stream(stage, saying("part", TurnFailed("model_auth", "Refused.")))

    assert deltas(chunks) == "part"
    assert chunks[-1]["error"]["code"] == "model_auth"


def test_what_was_said_before_goes_to_the_model_and_the_system_instructs(stage: Stage) -> None:
    echo = Echo()
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "re: One"},
        {"role": "user", "content": [{"type": "text", "text": "Two"}]},
    ]
    ignored = {"user": "x", "store": True, "parallel_tool_calls": True}
    stream(stage, echo, messages=messages, temperature=0.5, max_tokens=9, stop="END", **ignored)

    assert [each["ephemeral"] for each in stage.get("/api/conversations")["conversations"]] == [True]
    [turn] = echo.turns
    assert (turn.message, turn.instructions) == ("Two", "Be brief.")
    assert [(each.role, each.content) for each in turn.history] == [("user", "One"), ("assistant", "re: One")]
    assert turn.parameters == Parameters(temperature=0.5, max_tokens=9, stop=("END",))


def test_in_a_conversation_that_is_named_its_own_history_counts(stage: Stage) -> None:
    echo = Echo()
    with working(stage.settings, echo) as worker:
        first = stage.ask(worker, "One")
        response = stage.client.post(
            "/v1/chat/completions",
            json=body(stream=True, messages=[{"role": "assistant", "content": "made up"}, *ASKED]),
            headers={"X-Backchat-Conversation": first["conversationId"].upper()},
        )
        worker.run(response.headers["X-Backchat-Session"])

    assert [each.content for each in echo.turns[1].history] == ["One", "re: One"]
    assert len(stage.messages(first["conversationId"])) == 4


def test_the_agents_are_the_models(stage: Stage) -> None:
    listed = stage.get("/v1/models")

    assert [(each["id"], each["name"]) for each in listed["data"]] == [("agent-1", "Assistant")]
    assert stage.get("/v1/models/agent-1") == listed["data"][0]
    assert stage.get("/v1/models/agent-2", 404)["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"model": "agent-2"}, 404, "model_not_found", None),
        ({"model": "agent-x"}, 404, "model_not_found", None),
        ({"model": "gpt-5"}, 404, "model_not_found", None),
        ({"messages": []}, 400, "invalid_request_error", "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "invalid_request_error", "messages"),
        ({"messages": [{"role": "tool", "content": "x"}, *ASKED]}, 400, "unsupported_parameter", "messages[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            400,
            "unsupported_parameter",
            "messages[0].content[0]",
        ),
        ({"tools": [{"type": "function"}]}, 400, "unsupported_parameter", "tools"),
        ({"tool_choice": "required"}, 400, "unsupported_parameter", "tool_choice"),
        ({"n": 2}, 400, "unsupported_parameter", "n"),
        ({"logprobs": True}, 400, "unsupported_parameter", "logprobs"),
        ({"modalities": ["text", "audio"]}, 400, "unsupported_parameter", "modalities"),
        ({"response_format": {"type": "json_object"}}, 400, "unsupported_parameter", "response_format"),
        ({"temperature": 3}, 400, "invalid_request_error", "temperature"),
    ],
)
def test_what_can_not_be_is_refused_by_name(stage: Stage, fields: Any, status: int, code: str, param: Any) -> None:
    error = stage.call("POST", "/v1/chat/completions", status, json=body(**fields))["error"]

    assert (error["code"], error["param"]) == (code, param)
    assert stage.get("/api/chat/sessions")["sessions"] == []


def test_errors_of_the_edge_have_the_shape_of_the_family(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(chat_secret=SECRET)

    assert stage.get("/v1/models", 401)["error"]["code"] == "invalid_api_key"
    stage.become("anna")
    assert stage.get("/v1/nothing", 404)["error"]["code"] == "not_found"
    assert stage.call("POST", "/v1/chat/completions", 415, data="x")["error"]["code"] == "unsupported_media_type"
    assert stage.call("POST", "/v1/chat/completions", 400, json=[])["error"]["type"] == "invalid_request_error"


def test_a_long_history_is_let_in(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(max_body_bytes=1000, max_history_body_bytes=100_000)
    long = [{"role": "user", "content": "x" * 5000}, *ASKED]
    echo = Echo()

    stream(stage, echo, messages=long)

    assert len(echo.turns[0].history[0].content) == 5000
    longer = [{"role": "user", "content": "x" * 200_000}, *ASKED]
    error = stage.call("POST", "/v1/chat/completions", 413, json=body(messages=longer))["error"]
    assert "MAX_HISTORY_BODY_BYTES" in error["message"]
    stage.post("x" * 5000, 413)
