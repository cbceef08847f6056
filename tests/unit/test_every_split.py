"""Wherever the network cuts a stream, a client makes the same of it."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.sse_merge import SseMerger


def chat(delta: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def tool(**fragment: Any) -> dict[str, Any]:
    return chat({"tool_calls": [fragment]})


def on_the_wire(*bodies: dict[str, Any], newline: str = "\n", end: str = "data: [DONE]") -> bytes:
    events = [json.dumps(body, ensure_ascii=False) for body in bodies]
    return "".join(f"data: {event}{newline * 2}" for event in events).encode() + f"{end}{newline * 2}".encode()


CREATED = {"type": "response.created", "response": {"id": "r", "status": "in_progress"}}
ADDED = {"type": "response.output_item.added", "output_index": 0}
CALL = {"type": "function_call", "name": "one"}
ITEM = {"item_id": "i", "output_index": 0}
TEXT = ITEM | {"type": "response.output_text.delta"}

STREAMS: dict[str, bytes] = {
    "texts": on_the_wire(chat({"content": "Hé"}), chat({"content": "llo 🙂"}), chat({}, "stop")),
    "line ends": on_the_wire(chat({"content": "a"}), chat({"content": "b"}, "stop"), newline="\r\n"),
    "carriage returns": on_the_wire(chat({"content": "a"}), chat({"content": "b"}, "stop"), newline="\r"),
    "single line ends": on_the_wire(chat({"content": "a"}), chat({"content": "b"}, "stop")).replace(b"\n\n", b"\n"),
    "mark and comments": b"\xef\xbb\xbf: hi\n\n" + on_the_wire(chat({"content": "a"})) + b": x\n\nretry: 3\n\n",
    "no last line end": on_the_wire(chat({"content": "a"}), chat({}, "stop")).rstrip(b"\n"),
    "thoughts": on_the_wire(chat({"reasoning": "a", "reasoning_content": "a"}), chat({"content": "<think>b</think>"})),
    "parts": on_the_wire(chat({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]})),
    "whole message": on_the_wire({"id": 7, "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}),
    "calls": on_the_wire(
        tool(index=0, function={"name": "one", "arguments": '{"x"'}),
        tool(index=0, function={"name": "one", "arguments": ": 1}"}),
        tool(index=0, function={"name": "one", "arguments": {"y": 2}}),
    ),
    "usage": on_the_wire(chat({"content": "a"}, usage={"prompt_tokens": "1"}), chat({}, usage={"prompt_tokens": 2.0})),
    "half characters": b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n' * 2 + b"data: [DONE]\n\n",
    "wrong bytes": b'data: {"choices":[{"delta":{"content":"a\xff\xfeb"}}]}\n\ndata: [DONE]\n\n',
    "error": on_the_wire(chat({"content": "a"}), {"object": "error", "message": "no", "code": 500}),
    "error event": on_the_wire(chat({"content": "a"}), end='event: error\ndata: {"message": "no"}'),
    "error in words": on_the_wire(chat({"content": "a"}), end="event: error\ndata: upstream died"),
    "responses": on_the_wire(CREATED, TEXT | {"delta": "Hé"}, TEXT | {"delta": "llo"}, {"type": "response.completed"}),
    "responses, signs of life": on_the_wire(CREATED, {"type": "keepalive"}, TEXT | {"delta": "a"}, {"type": "ping"}),
    "responses, call": on_the_wire(
        ADDED | {"item": CALL | {"call_id": "a", "arguments": None}},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": '{"x"'},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": ": 1}"},
        {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": {"x": 1}},
    ),
    "responses, all at its end": on_the_wire(
        {"type": "response.completed", "response": {"output": [{"type": "message", "content": [{"text": "a"}]}, CALL]}}
    ),
    "responses, failed": on_the_wire(
        TEXT | {"delta": "a"}, {"type": "response.failed", "response": {"error": {"code": 503, "message": "no"}}}
    ),
}  # fmt: skip


def merged(pieces: list[bytes]) -> tuple[list[Any], bool]:
    """What a client makes of a stream: texts and arguments joined, everything else in its order."""
    merger = SseMerger()
    wire = b"".join(map(merger.feed, pieces)) + merger.finish()
    out: list[Any] = []
    for event in wire.decode().split("\n\n"):
        data = event.rpartition("data: ")[2]
        if data.startswith("{"):
            for key, value in _facts(json.loads(data)):
                if isinstance(value, str) and out and out[-1][0] == key:
                    out[-1] = (key, out[-1][1] + value)
                else:
                    out.append((key, value))
    return out, merger.ended


def _facts(body: dict[str, Any]) -> list[tuple[Any, Any]]:
    choices = body.get("choices")
    if not choices:
        kind, delta = body.get("type"), body.get("delta")
        return [((kind, body.get("item_id")), delta)] if isinstance(delta, str) else [(kind, body)]
    facts: list[tuple[Any, Any]] = []
    for field, value in choices[0]["delta"].items():
        for call in value if field == "tool_calls" else ():
            facts += [(("name", call["index"]), call["function"].get("name", "")), (("arguments", call["index"]), "")]
            facts[-1] = (facts[-1][0], call["function"].get("arguments", ""))
        if field != "tool_calls" and value:
            facts.append((field, value))
    facts = [fact for fact in facts if fact[1] != ""]
    return facts + [("finish", [reason]) for reason in [choices[0].get("finish_reason")] if reason]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_cut_once_anywhere_is_the_same(name: str) -> None:
    stream = STREAMS[name]
    whole = merged([stream])

    for cut in range(1, len(stream)):
        assert merged([stream[:cut], stream[cut:]]) == whole, cut
    assert merged([bytes([byte]) for byte in stream]) == whole


@given(stream=st.sampled_from(list(STREAMS.values())), cuts=st.lists(st.integers(0, 2000), max_size=10))
def test_a_stream_that_is_cut_many_times_is_the_same(stream: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})

    assert merged([stream[a:b] for a, b in itertools.pairwise(edges)]) == merged([stream])


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("single line ends", [("content", "ab"), ("finish", ["stop"])]),
        ("mark and comments", [("content", "a")]),
        ("parts", [("reasoning_content", "hm")]),
        ("whole message", [("content", "a"), ("finish", ["stop"])]),
        ("wrong bytes", [("content", "a��b")]),
        ("error in words", [("content", "a"), (None, {"error": "upstream died"})]),
        ("error event", [("content", "a"), (None, {"error": {"message": "no"}})]),
        (
            "calls",
            [(("name", 0), "one"), (("arguments", 0), '{"x": 1}'),
             (("name", 1), "one"), (("arguments", 1), '{"y": 2}')],
        ),
        ("responses, signs of life", [("response.created", CREATED), (("response.output_text.delta", "i"), "a")]),
        (
            "responses, failed",
            [(("response.output_text.delta", "i"), "a"), (None, {"error": {"code": 503, "message": "no"}})],
        ),
    ],
)  # fmt: skip
def test_it_is_what_the_server_meant(name: str, facts: list[tuple[Any, Any]]) -> None:
    assert merged([STREAMS[name]])[0] == facts
