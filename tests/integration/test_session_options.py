"""What a caller says of a session beside its message: a history of its own, instructions, parameters, metadata."""

from __future__ import annotations

from typing import Any

import pytest

from app.db.models import SessionOptions
from app.events import Done
from app.parameters import Parameters
from app.sessions import claims
from tests.model_server import ModelServer
from tests.stage import Echo, Stage, working
from tests.turns import answer, make_settings
from worker.orchestrator import Message
from worker.process import model_context

EARLIER = [
    {"role": "system", "content": "Speak Klingon."},
    {"role": "user", "content": "Привет 🙂"},
    {"role": "assistant", "content": "nuqneH"},
]
SAID = (Message("system", "Speak Klingon."), Message("user", "Привет 🙂"), Message("assistant", "nuqneH"))


def test_an_orchestrator_gets_what_the_caller_said_in_place_of_the_conversation(stage: Stage) -> None:
    echo = Echo()
    with working(stage.settings, echo) as worker:
        first = stage.ask(worker, "One")
        there = {"conversationId": first["conversationId"]}
        stage.ask(worker, "Two", messages=EARLIER, instructions="Be brief.", temperature=0.5, stop=["END"], **there)
        stage.ask(worker, "Three", **there)

    _, with_options, plain = echo.turns
    assert with_options.history == SAID
    assert with_options.instructions == "Be brief."
    assert with_options.parameters == Parameters(temperature=0.5, stop=("END",))
    assert [each.content for each in plain.history] == ["One", "re: One", "Two", "re: Two"]
    assert (plain.instructions, plain.parameters) == ("", Parameters())


def test_an_empty_history_is_one(stage: Stage) -> None:
    echo = Echo()
    with working(stage.settings, echo) as worker:
        first = stage.ask(worker, "One")
        stage.ask(worker, "Two", messages=[], conversationId=first["conversationId"])

    assert echo.turns[1].history == ()


def test_metadata_comes_back_with_the_session_and_goes_with_it(stage: Stage) -> None:
    notes = {"ticket": "42", "цвет": "🟢"}
    session_id = stage.post("Hello", metadata=notes)["sessionId"]

    assert stage.session(session_id)["metadata"] == notes
    assert [row["metadata"] for row in stage.get("/api/chat/sessions")["sessions"]] == [notes]

    stage.delete(f"/api/chat/session/{session_id}")
    assert SessionOptions.select().count() == 0


def test_a_session_without_options_stores_none(stage: Stage) -> None:
    session_id = stage.post("Hello")["sessionId"]

    assert SessionOptions.select().count() == 0
    assert stage.session(session_id)["metadata"] == {}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"a" * 65: "x"}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"temperature": 2.1}, "temperature"),
        ({"topP": 0}, "topP"),
        ({"maxTokens": 0}, "maxTokens"),
        ({"stop": [""]}, "stop"),
        ({"reasoningEffort": "a lot"}, "reasoningEffort"),
    ],
)
def test_an_option_that_can_not_be_is_refused_by_name(stage: Stage, fields: dict[str, Any], named: str) -> None:
    problem = stage.post("Hello", 400, **fields)

    assert problem["code"] == "invalid_request"
    assert named in problem["detail"]


def test_a_key_that_is_used_again_with_other_options_is_refused(stage: Stage) -> None:
    def post(status: int, **fields: Any) -> Any:
        body = {"message": "Hello", **fields}
        return stage.call("POST", "/api/chat/session", status, json=body, headers={"Idempotency-Key": "k"})

    first = post(202, instructions="Be brief.")

    assert post(202, instructions="Be brief.")["sessionId"] == first["sessionId"]
    assert post(422, instructions="Be long.")["code"] == "idempotency_key_reused"


def test_options_are_read_by_the_attempt_that_goes_on(stage: Stage) -> None:
    echo = Echo()
    session_id = stage.post("Two", messages=EARLIER)["sessionId"]
    [claim], _ = claims.take([session_id], "stopping", max_attempts=3, turn_timeout_s=60)
    claims.hand_back(claim)
    with working(stage.settings, echo) as worker:
        worker.run(session_id)

    assert echo.turns[0].attempt == 2
    assert echo.turns[0].history == SAID


def test_the_newest_messages_that_fit_are_kept_and_begin_with_the_users() -> None:
    said = [Message("system", "s"), *(Message(role, "x" * 30) for role in ("user", "assistant") * 3)]

    kept, omitted = model_context.fit_messages(said, 5 + 3 * 14)

    assert [each.role for each in kept] == ["system", "user", "assistant"]
    assert omitted == 2
    assert model_context.fit_messages(said, 1000) == (said, 0)
    assert model_context.fit_messages(said, 0) == (said[:1], 3)


GIVEN = Parameters(temperature=0.5, top_p=0.9, max_tokens=7, stop=("END",), seed=3, reasoning_effort="low")


def test_the_engine_tells_the_model_what_the_caller_said(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"steps": [{"text": "Yes."}]}]})

    turn = answer(
        make_settings(model_server), f"openai-chat:{model}", parameters=GIVEN, history=SAID, instructions="Be brief."
    )

    assert isinstance(turn.done, Done)
    [request] = model_server.requests(model)
    body = request["body"]
    told = {name: body[name] for name in ("temperature", "top_p", "max_completion_tokens", "stop", "seed")}
    assert told == {"temperature": 0.5, "top_p": 0.9, "max_completion_tokens": 7, "stop": ["END"], "seed": 3}
    assert body["reasoning_effort"] == "low"
    said = [message["content"] for message in body["messages"]]
    assert [text for text in said if "Be brief." not in text] == [*(each.content for each in SAID), "Hello?"]
    assert len(said) == 5


def test_what_an_api_has_no_word_for_is_refused_by_name_before_it_is_asked(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"steps": [{"text": "Yes."}]}]})

    turn = answer(make_settings(model_server), f"openai:{model}", parameters=Parameters(stop=("END",), seed=3))

    assert turn.failed == "unsupported_parameter"
    assert turn.failure is not None
    assert "'seed', 'stop'" in turn.failure.detail
    assert model_server.requests(model) == []


@pytest.mark.parametrize("said", ["Unsupported parameter: 'temperature'", "extra fields: temperature not permitted"])
def test_what_a_server_refuses_is_told_by_name_and_not_left_out(model_server: ModelServer, said: str) -> None:
    fault = {"fault": {"status": 400, "body": {"error": {"message": said, "type": "invalid_request_error"}}}}
    model = model_server.add({"answers": [fault]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}", parameters=Parameters(temperature=0.5))

    assert turn.failed == "unsupported_parameter"
    assert turn.failure is not None
    assert "'temperature'" in turn.failure.detail
    assert all(request["body"]["temperature"] == 0.5 for request in model_server.requests(model))


def test_the_demo_model_takes_every_parameter() -> None:
    assert answer(make_settings(), "demo", message="Hi", parameters=GIVEN).done.model == "demo"


@pytest.mark.parametrize("chat_model", ["openai:gpt-5", "openai-chat:o3"])
def test_a_model_that_reasons_takes_no_temperature(model_server: ModelServer, chat_model: str) -> None:
    turn = answer(make_settings(model_server), chat_model, parameters=Parameters(temperature=0.5))

    assert turn.failed == "unsupported_parameter"
