"""The scripted server misbehaves: the turn ends with a stable code or a right answer, and nothing is shown twice."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from app.events import ToolCall
from tests import sample_tools
from tests.model_server import ModelServer
from tests.turns import answer, make_agent, make_settings
from worker.engine import failures
from worker.orchestrator import Checkpoint

APIS = ["openai-chat", "openai"]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "FIRST_PAUSE_S", 0.01)


def call(name: str, arguments: str, call_id: str = "a") -> dict[str, Any]:
    return {"steps": [{"tool": {"index": 0, "id": call_id, "name": name, "arguments": arguments}}]}


SAY_HI = {"steps": [{"text": "Hi"}]}
SAY_RESULT = {"steps": [{"text": "It is "}, {"echo": "tool"}]}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_model_auth_at_once(model_server: ModelServer, api: str, status: int) -> None:
    model = model_server.add({"answers": [{"fault": {"status": status}}]})

    turn = answer(make_settings(model_server), f"{api}:{model}")

    assert turn.failed == "model_auth"
    assert "secret-key" not in turn.failure.detail
    assert len(model_server.requests(model)) == 1


@pytest.mark.parametrize("beginning", ["data: ", '{"choices": "', " "])
def test_a_piece_without_an_end_is_answer_too_large_and_not_asked_for_again(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch, beginning: str
) -> None:
    monkeypatch.setattr("worker.engine.sse_frames.MAX_EVENT_BYTES", 1024 * 1024)
    said = beginning + (" " if beginning == " " else "x") * 3 * 1024 * 1024
    model = model_server.add({"answers": [{"steps": [{"raw": "\n\n"}, {"text": "Hi"}, {"raw": said}]}]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    assert turn.failed == "answer_too_large"
    assert len(model_server.requests(model)) == 1


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("pieces", "calls", "code"),
    [(40, 1, "tool_arguments_too_large"), (8, 8, "tool_results_too_large"), (1, 20, "too_many_tool_calls")],
)
def test_what_an_answer_asks_for_is_bounded_while_it_streams(
    model_server: ModelServer, api: str, pieces: int, calls: int, code: str
) -> None:
    steps: list[dict[str, Any]] = [{"text": "Hi"}]
    for index in range(calls):
        steps.append({"tool": {"index": index, "id": f"call-{index}", "name": "calculate", "arguments": '{"x": "'}})
        steps += [{"tool": {"index": index, "arguments": "x" * 1000}}] * pieces
    model = model_server.add({"answers": [{"steps": [*steps, {"stall": True}]}]})
    bounds = {"max_arguments_bytes": 20_000, "max_tool_bytes": 40_000, "max_calls_per_answer": 16}

    turn = answer(make_settings(model_server, **bounds), f"{api}:{model}")

    assert turn.failed == code
    assert len(model_server.requests(model)) == 1


def test_without_a_key_openai_is_model_auth() -> None:
    assert answer(make_settings(), "openai:gpt-5-mini").failed == "model_auth"


@pytest.mark.parametrize("name", ["nobody:nothing", "gpt-5", "A_KEY:x", "openai:", "test"])
def test_an_unknown_provider_is_model_not_found_and_the_text_says_what_a_name_is(name: str) -> None:
    turn = answer(make_settings(), name)

    assert turn.failed == "model_not_found"
    assert "'provider:model'" in turn.failure.detail


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("anthropic:claude-sonnet-4-5", "install pydantic-ai-slim[anthropic]"),
        ("google:gemini-3-pro", "install pydantic-ai-slim[google]"),
        ("deepseek:deepseek-chat", "set DEEPSEEK_API_KEY"),
        ("openrouter:meta/llama", "set OPENROUTER_API_KEY"),
        ("ollama:llama3.2", "set OLLAMA_BASE_URL"),
        ("vercel:x", "set VERCEL_AI_GATEWAY_API_KEY or VERCEL_OIDC_TOKEN"),
        ("openai-codex:gpt-5", "its settings are not complete"),
    ],
)
def test_a_provider_that_is_not_set_up_is_model_not_configured_and_the_text_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, says: str
) -> None:
    for variable in ("DEEPSEEK_API_KEY", "OPENROUTER_API_KEY", "OLLAMA_BASE_URL", "VERCEL_OIDC_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    turn = answer(make_settings(), name)

    assert turn.failed == "model_not_configured"
    assert turn.failure.detail == f"The provider {name.partition(':')[0]!r} is not set up on the server: {says}."


def test_an_unknown_model_is_model_not_found(model_server: ModelServer) -> None:
    assert answer(make_settings(model_server), "openai-chat:nothing").failed == "model_not_found"


def test_a_rate_limit_is_waited_for_as_long_as_the_server_asks(model_server: ModelServer) -> None:
    fault = {"status": 429, "headers": {"Retry-After": "1"}, "times": 1}
    model = model_server.add({"answers": [{"fault": fault, "steps": [{"text": "Yes."}]}]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    assert turn.done.content == "Yes."
    [first, second] = model_server.requests(model)
    assert 1.0 <= second["at"] - first["at"] < 3.0


@pytest.mark.parametrize("headers", [{"Retry-After": "3600"}, {"Retry-After": "0"}, {}])
def test_a_rate_limit_that_stays_is_model_rate_limited(model_server: ModelServer, headers: dict[str, str]) -> None:
    model = model_server.add({"answers": [{"fault": {"status": 429, "headers": headers}}]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    assert turn.failed == "model_rate_limited"


def test_a_used_up_quota_is_not_tried_again(model_server: ModelServer) -> None:
    error = {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}
    model = model_server.add({"answers": [{"fault": {"status": 429, "body": {"error": error}}}]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    assert turn.failed == "model_quota_exceeded"
    assert len(model_server.requests(model)) == 1


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 503}, {"cut": True}], ids=str)
def test_a_failing_server_is_tried_again(model_server: ModelServer, api: str, fault: dict[str, Any]) -> None:
    model = model_server.add({"answers": [{"fault": fault | {"times": 2}, "steps": [{"text": "Yes."}]}]})

    turn = answer(make_settings(model_server), f"{api}:{model}")

    assert turn.done.content == "Yes."
    assert len(model_server.requests(model)) == 3


@pytest.mark.parametrize("fault", [{"status": 500}, {"cut": True}], ids=str)
def test_a_server_that_keeps_failing_is_model_unavailable(model_server: ModelServer, fault: dict[str, Any]) -> None:
    model = model_server.add({"answers": [{"fault": fault}]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    assert turn.failed == "model_unavailable"
    assert len(model_server.requests(model)) == 3


def test_each_request_of_a_turn_has_tries_of_its_own(model_server: ModelServer) -> None:
    failing = {"fault": {"status": 500, "times": 2}}
    calls = [call("calculate", '{"expression": "6*7"}', call_id) | failing for call_id in "ab"]
    model = model_server.add({"answers": [*calls, SAY_RESULT | failing]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    assert turn.done.content == "It is 42"
    assert len(model_server.requests(model)) == 9


def test_a_server_that_has_moved_is_followed(model_server: ModelServer) -> None:
    where = {"Location": f"{model_server.url}/chat/completions"}
    model = model_server.add({"answers": [{"fault": {"status": 307, "headers": where, "times": 1}, **SAY_HI}]})

    assert answer(make_settings(model_server), f"openai-chat:{model}").done.content == "Hi"


@pytest.mark.parametrize(
    "chunk", ["[1, 2]", '{"id": "c", "choices": [null]}', '{"choices": [{"delta": {"tool_calls": [null]}}]}']
)
def test_an_answer_that_makes_no_sense_is_model_error_and_the_text_is_kept(
    model_server: ModelServer, chunk: str
) -> None:
    model = model_server.add({"answers": [{"steps": [{"text": "Hi"}, {"raw": f"data: {chunk}\n\n"}]}]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    assert turn.failed == "model_error"
    assert turn.text == "Hi"


def test_no_server_is_model_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings = make_settings(openai_base_url=f"http://127.0.0.1:{free.getsockname()[1]}/v1")

        turn = answer(settings, "openai-chat:any")

    assert turn.failed == "model_unavailable"


def test_a_refused_request_is_model_error(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"fault": {"status": 400}}]})

    assert answer(make_settings(model_server), f"openai-chat:{model}").failed == "model_error"


def test_an_error_inside_the_stream_ends_the_turn_and_keeps_the_text(model_server: ModelServer) -> None:
    error = 'data: {"error": {"message": "overloaded", "type": "server_error", "code": null}}\n\n'
    model = model_server.add({"answers": [{"steps": [{"text": "Half"}, {"raw": error}], "no_end": True}]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    assert turn.failed in ("model_unavailable", "model_error")
    assert turn.text == "Half"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("end", [{"steps": [{"text": "Half "}, {"text": "an answer"}, {"delay": 0.2}, {"cut": True}]}])
def test_a_cut_stream_is_model_unavailable_and_nothing_is_shown_twice(
    model_server: ModelServer, api: str, end: dict[str, Any]
) -> None:
    model = model_server.add({"answers": [end]})

    turn = answer(make_settings(model_server), f"{api}:{model}")

    assert turn.failed == "model_unavailable"
    assert turn.text == "Half an answer"
    assert len(model_server.requests(model)) == 1


@pytest.mark.parametrize("api", APIS)
def test_a_stream_that_ends_before_the_answer_does_is_model_unavailable(model_server: ModelServer, api: str) -> None:
    model = model_server.add({"answers": [{"steps": [{"text": "Half"}], "no_end": True}]})

    turn = answer(make_settings(model_server), f"{api}:{model}")

    assert turn.failed == "model_unavailable"
    assert turn.text == "Half"


def test_a_stream_that_is_cut_before_it_says_anything_is_tried_again(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"steps": [{"cut": True}]}]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    assert turn.failed == "model_unavailable"
    assert len(model_server.requests(model)) == 3


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("script", "text"),
    [({"fault": {"stall": True}}, ""), ({"steps": [{"text": "Half"}, {"stall": True}]}, "Half")],
    ids=["before", "within"],
)
def test_a_stall_is_model_timeout(model_server: ModelServer, api: str, script: dict[str, Any], text: str) -> None:
    model = model_server.add({"answers": [script]})
    started = time.monotonic()

    turn = answer(make_settings(model_server, model_timeout_s=0.5), f"{api}:{model}")

    assert turn.failed == "model_timeout"
    assert turn.text == text
    assert time.monotonic() - started < 3
    assert model_server.wait_closed(model)[0]["how"] == "client_closed"


def test_a_long_answer_does_not_time_out_while_it_streams(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"steps": [{"repeat": {"text": "x", "count": 10, "every": 0.15}}]}]})

    turn = answer(make_settings(model_server, model_timeout_s=0.5), f"openai-chat:{model}")

    assert turn.done.content == "x" * 10


@pytest.mark.parametrize("api", APIS)
def test_an_empty_answer_is_asked_again_once_and_then_empty_answer(model_server: ModelServer, api: str) -> None:
    model = model_server.add({"answers": [{"steps": []}], "loop": True})

    turn = answer(make_settings(model_server), f"{api}:{model}")

    assert turn.failed == "empty_answer"
    assert len(model_server.requests(model)) == 2


def test_an_answer_that_is_cut_by_a_filter_is_content_filtered_and_keeps_its_text(model_server: ModelServer) -> None:
    cut = '{"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]}'
    model = model_server.add({"answers": [{"steps": [{"text": "It is"}, {"raw": f"data: {cut}\n\n"}], "no_end": True}]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    assert turn.failed == "content_filtered"
    assert turn.text == "It is"


def test_an_answer_that_the_provider_calls_failed_is_model_error_and_keeps_its_text(model_server: ModelServer) -> None:
    response = {"id": "r", "object": "response", "created_at": 0, "model": "m", "output": [], "tools": []}
    failed = {"type": "response.failed", "sequence_number": 9, "response": response | {"status": "failed"}}
    raw = f"event: response.failed\ndata: {json.dumps(failed)}\n\n"
    model = model_server.add({"answers": [{"steps": [{"text": "It is"}, {"raw": raw}], "no_end": True}]})

    turn = answer(make_settings(model_server), f"openai:{model}")

    assert turn.failed == "model_error"
    assert turn.text == "It is"


CALCULATE = call("calculate", '{"expression": "2 + 2"}')


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a\ud83db"},
        {"content": "a\ude42"},
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "no\ud83d", "arguments": '{"x": "\ude42"}'}}]},
    ],
    ids=["text", "text that ends with it", "a call"],
)
def test_half_a_character_before_a_tool_call_does_not_end_the_turn(
    model_server: ModelServer, delta: dict[str, Any]
) -> None:
    chunk = {"id": "c", "choices": [{"index": 0, "delta": delta}]}
    steps = [*CALCULATE["steps"], {"raw": f"data: {json.dumps(chunk)}\n\n"}]
    model = model_server.add({"answers": [{"steps": steps}, SAY_RESULT]})
    settings = make_settings(model_server)

    turn = answer(settings, f"openai-chat:{model}")

    assert "It is 4" in turn.done.content
    for state in turn.checkpoints:
        resumed = answer(settings, f"openai-chat:{model}", checkpoint=json.loads(json.dumps(state)))
        assert resumed.done.content.startswith(turn.done.content.partition("It is")[0])


def test_arguments_that_are_no_json_are_told_to_the_model(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [call("calculate", '{"expression": 1 +'), SAY_RESULT]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    [before, after] = turn.calls("a")
    assert before.tool_args == '{"expression": 1 +'
    assert after.tool_success is False
    assert "Invalid JSON" in after.tool_result
    assert "Invalid JSON" in turn.done.content


def test_an_unknown_tool_is_told_to_the_model(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [call("no_such_tool", "{}"), SAY_RESULT]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    [before, after] = turn.calls("a")
    assert (before.tool_success, after.tool_success) == (None, False)
    assert "no_such_tool" in turn.done.content


def test_a_model_that_keeps_calling_an_unknown_tool_is_model_error(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [call("no_such_tool", "{}", "call-{n}")], "loop": True})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    assert turn.failed == "model_error"
    ended = [event.tool_call_id for event in turn.of(ToolCall) if event.tool_success is False]
    assert sorted(ended) == sorted({event.tool_call_id for event in turn.of(ToolCall)})


@pytest.mark.parametrize("tool", ["broken", "broken_async"])
def test_a_tool_that_raises_is_told_to_the_model(model_server: ModelServer, tool: str) -> None:
    model = model_server.add({"answers": [call(tool, '{"reason": "rust"}'), SAY_RESULT]})
    agent = make_agent(tools=(f"tests.sample_tools:{tool}",))

    turn = answer(make_settings(model_server), f"openai-chat:{model}", agent=agent)

    [_, after] = turn.calls("a")
    assert (after.tool_result, after.tool_success) == ("OSError: rust", False)
    assert "OSError: rust" in turn.done.content


def test_a_tool_result_of_a_mebibyte_comes_through(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [call("large", '{"size": 1048576}'), {"steps": [{"text": "Long."}]}]})
    agent = make_agent(tools=("tests.sample_tools:large",))

    turn = answer(make_settings(model_server), f"openai-chat:{model}", agent=agent)

    [_, after] = turn.calls("a")
    assert after.tool_result == sample_tools.large(1_048_576)
    assert after.tool_success is True
    assert turn.done.content == "Long."
    [_, request] = model_server.requests(model)
    assert request["body"]["messages"][-1]["content"] == sample_tools.large(1_048_576)


def test_a_tool_result_over_the_limit_is_told_to_the_model(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [call("large", '{"size": 5000}'), {"steps": [{"text": "Too long."}]}]})
    agent = make_agent(tools=("tests.sample_tools:large",))

    turn = answer(make_settings(model_server, max_content_bytes=4_999), f"openai-chat:{model}", agent=agent)

    assert turn.calls("a")[1].tool_result == "The result is larger than 4999 bytes."
    assert turn.done.content == "Too long."


def test_a_model_that_never_stops_calling_tools_is_too_many_model_requests(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [call("calculate", '{"expression": "1"}', "call-{n}")], "loop": True})

    turn = answer(make_settings(model_server, max_model_requests=3), f"openai-chat:{model}")

    assert turn.failed == "too_many_model_requests"
    assert len(model_server.requests(model)) == 3


def test_a_failure_after_a_tool_call_is_tried_again_without_running_the_tool_again(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = sample_tools.count_runs(monkeypatch)
    after = {"fault": {"status": 500, "times": 1}} | SAY_RESULT
    model = model_server.add({"answers": [call("counted", '{"name": "x"}'), after]})
    agent = make_agent(tools=("tests.sample_tools:counted",))

    turn = answer(make_settings(model_server), f"openai-chat:{model}", agent=agent)

    assert turn.done.content == "It is counted x"
    assert runs == ["x"]
    assert [event.tool_success for event in turn.calls("a")] == [None, True]
    assert len(turn.of(Checkpoint)) == 2


def test_an_agent_with_a_tool_that_does_not_exist_is_agent_misconfigured(model_server: ModelServer) -> None:
    agent = make_agent(tools=("tests.sample_tools:missing",))

    turn = answer(make_settings(model_server), "openai-chat:any", agent=agent)

    assert turn.failed == "agent_misconfigured"
    assert "tests.sample_tools:missing" in turn.failure.detail
