"""What a server refuses of a request is left out, what a request needs is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.engine.optional_parameters import OptionalParameters

URL = "http://server/v1/chat/completions"
REQUEST = {
    "model": "m",
    "stream": True,
    "stream_options": {"include_usage": True},
    "tool_choice": "auto",
    "messages": [
        {"role": "user", "content": "Why is stream_options refused?"},
        {"role": "assistant", "reasoning_content": "hm", "tool_calls": [{"id": "a", "extra_content": {"x": 1}}]},
    ],
    "tools": [{"type": "function", "function": {"name": "one", "strict": True}}, {"name": "two", "strict": True}],
}


def without(said: str, request: dict[str, Any] = REQUEST) -> dict[str, Any] | None:
    """What is sent after the server *said* no."""
    refusal = OptionalParameters().named(URL, json.dumps(request).encode(), said.encode())
    return None if refusal is None else json.loads(refusal.body)


@pytest.mark.parametrize(
    ("said", "gone"),
    [
        ("Unrecognized request argument supplied: stream_options", {"stream_options"}),
        ("stream_options.include_usage: unknown field", {"stream_options"}),
        ("'tool_choice' is not supported by this model; nor is stream_options", {"stream_options", "tool_choice"}),
        ("extra fields not permitted", {"stream_options", "tool_choice"}),
        ("Unsupported parameter", {"stream_options", "tool_choice"}),
    ],
)
def test_what_is_refused_is_gone_from_the_request(said: str, gone: set[str]) -> None:
    less = without(said)

    assert less is not None
    assert REQUEST.keys() - less.keys() == gone


@pytest.mark.parametrize("name", ["reasoning_content", "extra_content", "strict"])
def test_what_is_refused_within_messages_and_tools_is_gone_everywhere(name: str) -> None:
    less = without(f"property '{name}' is unsupported")

    assert name in json.dumps(REQUEST)
    assert name not in json.dumps(less)
    assert "stream_options" in (less or {})


@pytest.mark.parametrize("said", ["messages must alternate", "model m does not exist", "tools are too many", "", "{}"])
def test_a_request_that_is_refused_for_what_it_needs_stays_refused(said: str) -> None:
    assert without(said) is None


def test_what_was_refused_is_left_out_of_later_requests_for_the_same_model_alone() -> None:
    parameters, body = OptionalParameters(), json.dumps(REQUEST).encode()
    refusal = parameters.named(URL, body, b"stream_options")
    assert refusal is not None
    before = parameters.without_refused(URL, body)

    parameters.remember(refusal)

    other = json.dumps(REQUEST | {"model": "other"}).encode()
    assert before == body
    assert "stream_options" not in json.loads(parameters.without_refused(URL, body))
    assert parameters.without_refused(URL, other) == other
    assert parameters.without_refused("http://other/v1", body) == body


def test_a_second_refusal_adds_to_the_first() -> None:
    parameters, body = OptionalParameters(), json.dumps(REQUEST).encode()
    for said in (b"stream_options", b"tool_choice"):
        refusal = parameters.named(URL, body, said)
        assert refusal is not None
        parameters.remember(refusal)

    assert not {"stream_options", "tool_choice"} & json.loads(parameters.without_refused(URL, body)).keys()
    assert parameters.named(URL, body, b"stream_options") is None
