"""What compatible servers send instead of what they should: the turn makes of it what was meant."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.events import Delta, Usage
from tests.model_server import ModelServer
from tests.turns import Recorded, answer, make_agent, make_settings, make_turn, record, with_engine
from worker.engine import failures, model_calls
from worker.orchestrator import Withdrawal

APIS = ["openai-chat", "openai"]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "FIRST_PAUSE_S", 0.01)


def say(*texts: str, **more: Any) -> dict[str, Any]:
    return {"steps": [{"text": text} for text in texts], **more}


def raw(*bodies: Any) -> dict[str, Any]:
    """A stream of these chunks and nothing more."""
    return {"steps": [{"raw": f"data: {json.dumps(body)}\n\n"} for body in bodies], "no_end": True}


def chunk(delta: Any, finish: str | None = None) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def whole(body: Any, status: int = 200, **more: Any) -> dict[str, Any]:
    return {"fault": {"status": status, "body": body, **more}}


def shown(turn: Recorded) -> str:
    """The answer as who follows its deltas is left with it."""
    text = ""
    for event in turn.events:
        text = "" if isinstance(event, Withdrawal) else text + event.content if isinstance(event, Delta) else text
    return text


CALL = {"tool": {"index": 0, "id": "a", "name": "calculate", "arguments": '{"expression": "6*7"}'}}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "texts",
    [
        ("<think>hm", " so</think>Yes."),
        ("<think>", "hm so", "</think>", "\n\nYes."),
        ("\n<th", "ink>\nhm so</thi", "nk>Yes."),
        ("hm so", "</think>", "Yes."),
        ("hm so</think>\n\nYes.",),
        ("<thinking>hm so</thinking>Yes.",),
        ("[THINK]hm so[/THINK]", "Yes."),
    ],
)
def test_thoughts_between_tags_are_no_part_of_the_answer(
    model_server: ModelServer, api: str, texts: tuple[str, ...]
) -> None:
    model = model_server.add({"answers": [say(*texts)]})

    turn = answer(make_settings(model_server), f"{api}:{model}")

    assert turn.done.content == shown(turn) == "Yes."
    assert turn.thinking.strip() == "hm so"


@pytest.mark.parametrize("api", APIS)
def test_thoughts_before_a_tool_call_go_back_to_the_model_as_it_said_them(model_server: ModelServer, api: str) -> None:
    first = {"steps": [{"text": "I need a tool"}, {"text": "</think>"}, CALL]}
    model = model_server.add({"answers": [first, say("hm</think>It is ", "42.")]})

    turn = answer(make_settings(model_server), f"{api}:{model}")

    assert turn.done.content == "It is 42."
    assert turn.thinking == "I need a toolhm"
    assert "I need a tool</think>" in json.dumps(model_server.requests(model)[1]["body"])


@pytest.mark.parametrize("reason", ["error", "abort", "failed", "network_error", "MALFORMED_FUNCTION_CALL"])
def test_an_answer_that_its_provider_broke_off_is_no_answer(model_server: ModelServer, reason: str) -> None:
    model = model_server.add({"answers": [raw(chunk({"content": "Half"}), chunk({}, reason))]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    assert turn.failed in ("model_error", "model_unavailable")
    assert turn.text == "Half"


@pytest.mark.parametrize(("reason", "code"), [("SAFETY", "content_filtered"), ("refusal", "content_filtered")])
def test_an_answer_that_was_filtered_under_another_name_is_filtered(
    model_server: ModelServer, reason: str, code: str
) -> None:
    model = model_server.add({"answers": [raw(chunk({"content": "Half"}), chunk({}, reason))]})

    assert answer(make_settings(model_server), f"openai-chat:{model}").failed == code


@pytest.mark.parametrize(("reason", "told"), [("max_tokens", "length"), ("eos_token", "stop"), ("end_turn", "stop")])
def test_a_reason_to_stop_is_told_in_one_way(model_server: ModelServer, reason: str, told: str) -> None:
    model = model_server.add({"answers": [raw(chunk({"content": "Yes."}), chunk({}, reason))]})

    assert answer(make_settings(model_server), f"openai-chat:{model}").done.finish_reason == told


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "error",
    [
        'event: error\ndata: {"message": "it broke", "code": 502}',
        'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}',
        'event: error\ndata: {"type": "error", "code": 503, "message": "it broke", "param": null}',
        "event: error\ndata: upstream connect error",
        'data: {"object": "error", "message": "it broke", "type": "InternalServerError", "code": 500}',
        'data: {"detail": "internal server error"}',
        'data: {"type": "response.failed", "response": {"status": "failed", "error": {"code": 503, "message": "x"}}}',
    ],
)
def test_an_error_in_the_stream_ends_the_turn_whatever_its_shape(
    model_server: ModelServer, api: str, error: str
) -> None:
    after_text = {"steps": [{"text": "Half"}, {"raw": f"{error}\n\n"}], "no_end": True}
    at_once = model_server.add({"answers": [{"steps": [{"raw": f"{error}\n\n"}], "no_end": True}]})
    model = model_server.add({"answers": [after_text]})
    settings = make_settings(model_server)

    turn, first = answer(settings, f"{api}:{model}"), answer(settings, f"{api}:{at_once}")

    assert (turn.failed, turn.text) == ("model_unavailable", "Half")
    assert first.failed == "model_unavailable"
    assert len(model_server.requests(at_once)) == 3


MESSAGE = {"role": "assistant", "content": "Yes.", "reasoning": "hm"}
OUTPUT = [
    {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}]},
    {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]},
]


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("openai-chat", {"choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}]}),
        ("openai-chat", {"object": "chat.completion", "created": 1.5, "choices": [{"message": MESSAGE}]}),
        ("openai-chat", {"choices": [{"message": {"reasoning": "hm", "content": [{"type": "text", "text": "Yes."}]}}]}),
        ("openai", {"object": "response", "id": "r", "status": "completed", "output": OUTPUT, "model": "m"}),
        ("openai", {"object": "response", "id": "r", "output": OUTPUT, "usage": {"input_tokens": 3.0}}),
    ],
)  # fmt: skip
def test_an_answer_in_one_piece_is_an_answer(model_server: ModelServer, api: str, body: dict[str, Any]) -> None:
    model = model_server.add({"answers": [whole(body)]})

    turn = answer(make_settings(model_server), f"{api}:{model}")

    assert (turn.done.content, turn.thinking) == ("Yes.", "hm")


@pytest.mark.parametrize("api", APIS)
def test_a_tool_call_in_one_piece_is_run(model_server: ModelServer, api: str) -> None:
    function = {"name": "calculate", "arguments": {"expression": "6*7"}}
    item = {"type": "function_call", "call_id": "a", "name": "calculate", "arguments": function["arguments"]}
    body = {"choices": [{"message": {"content": None, "tool_calls": [{"id": "a", "function": function}]}}]}
    response = {"object": "response", "id": "r", "status": "completed", "output": [item]}
    first = whole(response if api == "openai" else body)
    model = model_server.add({"answers": [first, {"steps": [{"echo": "tool"}]}]})

    turn = answer(make_settings(model_server), f"{api}:{model}")

    assert turn.done.content == "42"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": {"message": "No models loaded.", "type": "invalid_request_error"}}, "model_not_found"),
        ({"error": "the input exceeds the context window"}, "context_too_long"),
        ([{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}], "model_auth"),
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, "model_quota_exceeded"),
        ({"choices": [], "code": 500, "detail": "x"}, "empty_answer"),
    ],
)
def test_an_error_that_calls_itself_a_success_is_an_error(
    model_server: ModelServer, api: str, body: Any, code: str
) -> None:
    model = model_server.add({"answers": [whole(body)], "loop": True})

    assert answer(make_settings(model_server), f"{api}:{model}").failed in (code, "model_error")


REFUSALS = [
    (400, {"error": {"message": "Unrecognized request argument supplied: stream_options"}}),
    (422, {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}),
    (400, {"object": "error", "message": "extra fields not permitted", "code": 400}),
    (500, {"error": "create() got an unexpected keyword argument 'stream_options'"}),
]


@pytest.mark.parametrize(("status", "body"), REFUSALS)
def test_a_parameter_that_a_server_refuses_is_left_out_from_then_on(
    model_server: ModelServer, status: int, body: Any
) -> None:
    settings = make_settings(model_server)
    model = model_server.add({"answers": [say("Yes.") | whole(body, status, times=1)]})

    async def twice(engine: Any) -> list[str]:
        turns = [make_turn(settings, f"openai-chat:{model}") for _ in range(2)]
        return [(await record(engine(turn))).done.content for turn in turns]

    assert with_engine(settings, twice) == ["Yes.", "Yes."]
    assert ["stream_options" in request["body"] for request in model_server.requests(model)] == [True, False, False]


def test_what_a_server_refuses_of_a_tool_is_left_out_as_well(model_server: ModelServer) -> None:
    refusal = {"detail": [{"loc": ["tools", 0, "function", "strict"], "msg": "Extra inputs are not permitted"}]}
    model = model_server.add({"answers": [say("Yes.") | whole(refusal, 422, times=1)]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    assert turn.done.content == "Yes."
    refused, taken = (json.dumps(request["body"]) for request in model_server.requests(model))
    assert ("strict" in refused, "strict" in taken) == (True, False)
    assert "stream_options" in taken


def test_a_request_that_is_refused_for_what_it_needs_is_not_sent_again(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [whole({"error": {"message": "messages must alternate"}}, 400)]})

    assert answer(make_settings(model_server), f"openai-chat:{model}").failed == "model_error"
    assert len(model_server.requests(model)) == 1


EMPTY = f"data: {json.dumps(chunk({'role': 'assistant', 'content': ''}))}\n\n"


@pytest.mark.parametrize(
    ("api", "sign"),
    [
        ("openai-chat", ": OPENROUTER PROCESSING\n\n"),
        ("openai-chat", EMPTY),
        ("openai-chat", "event: ping\ndata: {}\n\n"),
        ("openai", 'data: {"type": "keepalive", "sequence_number": 1}\n\n'),
    ],
)
def test_signs_of_life_keep_a_stream_alive_only_as_long_as_is_set(
    model_server: ModelServer, api: str, sign: str
) -> None:
    steps = [step for _ in range(5) for step in ({"raw": sign}, {"delay": 0.1})]
    model = model_server.add({"answers": [{"steps": [*steps, {"text": "Yes."}]}]})

    patient = answer(make_settings(model_server, model_timeout_s=0.4), f"{api}:{model}")
    strict = answer(make_settings(model_server, model_timeout_s=0.4, model_keepalive_timeout_s=0.15), f"{api}:{model}")

    assert patient.done.content == "Yes."
    assert strict.failed == "model_timeout"
    assert model_server.wait_closed(model, 2)[1]["how"] == "client_closed"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("count", [3_000_000_000, -5])
def test_usage_that_can_not_be_is_left_out_and_logged(
    model_server: ModelServer, caplog: pytest.LogCaptureFixture, api: str, count: int
) -> None:
    model = model_server.add({"answers": [say("Yes.", usage={"prompt_tokens": count, "completion_tokens": 7})]})

    turn = answer(make_settings(model_server), f"{api}:{model}")

    assert turn.done.usage is None
    assert "usage that can't be is left out" in [record.message for record in caplog.records]


@pytest.mark.parametrize(
    "usage",
    [{"prompt_tokens": "11", "completion_tokens": 7.0}, {"prompt_tokens": 11.0, "completion_tokens": "7"}],
)
def test_counts_that_are_no_whole_numbers_are_read_as_such(model_server: ModelServer, usage: dict[str, Any]) -> None:
    last = {"id": "c", "choices": [], "usage": {**usage, "total_tokens": None, "prompt_tokens_details": None}}
    model = model_server.add({"answers": [raw(chunk({"content": "Yes."}), chunk({}, "stop"), last)]})

    assert answer(make_settings(model_server), f"openai-chat:{model}").done.usage == Usage(11, 7)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 429, "headers": {"Retry-After": "20"}},
        {"status": 404},
        {"cut": True},
        {"status": 401},
    ],
    ids=str,
)
def test_the_fallback_answers_when_the_model_fails_before_it_has_said_anything(
    model_server: ModelServer, api: str, fault: dict[str, Any]
) -> None:
    model, other = model_server.add({"answers": [{"fault": fault}]}), model_server.add({"answers": [say("Yes.")]})

    turn = answer(make_settings(model_server), f"{api}:{model}", agent=make_agent(fallback=f"openai-chat:{other}"))

    assert (turn.done.content, turn.done.model) == ("Yes.", other)


def test_a_turn_that_went_to_the_fallback_stays_there_in_later_attempts(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"fault": {"status": 503, "times": 3}}, say("Not me.")]})
    other = model_server.add({"answers": [{"steps": [CALL]}, say("It is 42.")]})
    agent = make_agent(fallback=f"openai-chat:{other}")
    settings = make_settings(model_server)

    first = answer(settings, f"openai-chat:{model}", agent=agent)
    later = [answer(settings, f"openai-chat:{model}", agent=agent, checkpoint=s) for s in first.checkpoints]

    assert [turn.done.content for turn in (first, *later)] == ["It is 42."] * (1 + len(later))
    assert len(first.checkpoints) == 3
    assert len(model_server.requests(model)) == 3


def test_a_model_that_is_not_set_up_is_replaced_by_the_fallback(model_server: ModelServer) -> None:
    other = model_server.add({"answers": [say("Yes.")]})
    agent = make_agent(fallback=f"openai-chat:{other}")

    assert answer(make_settings(model_server), "nobody:nothing", agent=agent).done.content == "Yes."


@pytest.mark.parametrize(
    "steps",
    [[{"text": "Half"}, {"cut": True}], [{"reasoning": "hm"}, {"cut": True}]],
    ids=["text", "thoughts"],
)
def test_the_fallback_is_not_asked_once_something_was_shown(
    model_server: ModelServer, steps: list[dict[str, Any]]
) -> None:
    model, other = model_server.add({"answers": [{"steps": steps}]}), model_server.add({"answers": [say("Yes.")]})

    turn = answer(
        make_settings(model_server), f"openai-chat:{model}", agent=make_agent(fallback=f"openai-chat:{other}")
    )

    assert turn.failed == "model_unavailable"
    assert model_server.requests(other) == []


def test_the_fallback_is_not_asked_after_a_tool_was_run(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"steps": [CALL]}, {"fault": {"status": 401}}]})
    other = model_server.add({"answers": [say("Yes.")]})

    turn = answer(
        make_settings(model_server), f"openai-chat:{model}", agent=make_agent(fallback=f"openai-chat:{other}")
    )

    assert turn.failed == "model_auth"
    assert model_server.requests(other) == []


@pytest.mark.parametrize("api", APIS)
def test_what_the_provider_says_of_a_failure_is_kept_and_logged_without_keys(
    model_server: ModelServer, caplog: pytest.LogCaptureFixture, api: str
) -> None:
    body = {"error": {"message": "Key secret-key of org-1 may not use this model", "code": "no_access"}}
    model = model_server.add({"answers": [whole(body, 403)]})

    turn = answer(make_settings(model_server), f"{api}:{model}", attempt=2)

    assert turn.failure is not None
    assert "Key [key] of org-1 may not use this model" in (turn.failure.provider_said or "")
    assert "org-1" not in turn.failure.detail
    [told] = [record for record in caplog.records if record.message == "model request failed"]
    assert (told.session_id, told.attempt, told.code) == ("s-1", 2, "model_auth")  # type: ignore[attr-defined]
    assert told.provider_said == turn.failure.provider_said  # type: ignore[attr-defined]


def test_being_told_to_wait_while_others_are_taken_is_no_failure(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_calls, "MAX_TRIES", 1)
    settings = make_settings(model_server)
    refused = {"fault": {"status": 429, "headers": {"retry-after-ms": "10"}, "times": 1}}
    model = model_server.add({"answers": [say("Yes.") | refused]})

    async def ask_all(engine: Any) -> list[Recorded]:
        # Each message is refused once.
        turns = [make_turn(settings, f"openai-chat:{model}", message=text) for text in ("One", "One", "Two")]
        return [await record(engine(turn)) for turn in turns]

    alone, again, other = with_engine(settings, ask_all)

    assert alone.failed == "model_rate_limited"
    assert again.done.content == other.done.content == "Yes."
