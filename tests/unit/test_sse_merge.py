"""Merging must change nothing but the number of deltas, however the network cuts the stream."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.sse_merge import SseMerger

TEXTS = st.text(min_size=1, max_size=8)


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def tool(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": arguments}
    if "id" in more:
        function["name"] = f"tool-{more['id']}"
    return chunk({"tool_calls": [{"index": index, "function": function, **more}]})


def responses(kind: str, item: int, delta: str) -> dict[str, Any]:
    return {"type": kind, "item_id": f"i{item}", "output_index": item, "sequence_number": 0, "delta": delta}


CHUNKS = st.one_of(
    st.builds(lambda t: chunk({"content": t}), TEXTS),
    st.builds(lambda t: chunk({"reasoning_content": t, "content": None}), TEXTS),
    st.builds(lambda i, t: tool(i, t), st.integers(0, 2), TEXTS),
    st.builds(lambda i, t: tool(i, t, id=f"call-{i}"), st.integers(0, 2), TEXTS),
    st.builds(lambda t: chunk({"content": t}, finish="stop"), TEXTS),
    st.builds(lambda n: {"id": "c", "choices": [], "usage": {"total_tokens": n}}, st.integers(1, 9)),
    st.builds(lambda t: chunk({"content": t, "annotations": [1]}), TEXTS),
)
EVENTS = st.one_of(
    st.builds(
        responses,
        st.sampled_from(
            ["response.output_text.delta", "response.function_call_arguments.delta", "response.reasoning_text.delta"]
        ),
        st.integers(0, 1),
        TEXTS,
    ),
    st.builds(lambda n: {"type": "response.output_item.added", "output_index": n}, st.integers(0, 3)),
)


def on_the_wire(bodies: list[dict[str, Any]], newline: str = "\n", ascii_only: bool = False) -> bytes:
    out = ""
    for body in bodies:
        if "type" in body:
            out += f"event: {body['type']}{newline}"
        out += f"data: {json.dumps(body, ensure_ascii=ascii_only)}{newline}{newline}"
    return out.encode("utf-8", "surrogatepass")


def read(stream: bytes) -> list[dict[str, Any]]:
    events = []
    for event in stream.replace(b"\r\n", b"\n").split(b"\n\n"):
        *_, data = event.split(b"\n")
        if data.startswith(b"data: {"):
            events.append(json.loads(data[6:]))
    return events


def folded(bodies: list[dict[str, Any]]) -> list[Any]:
    """What a client makes of the chunks: text by kind and order, tool calls by index, everything else as it is."""
    out: list[Any] = []
    opened: list[int] = []

    def add(key: tuple[Any, ...], text: str) -> None:
        if out and isinstance(out[-1], list) and out[-1][0] == key:
            out[-1][1] += text
        else:
            out.append([key, text])

    for body in bodies:
        if body.get("type", "").endswith(".delta"):
            add((body["type"], body["item_id"]), body["delta"])
            continue
        if "type" in body or not body["choices"]:
            out.append(body)
            continue
        choice = body["choices"][0]
        for field, value in choice["delta"].items():
            if field == "tool_calls":
                for call in value:
                    # A call that opens is a fact of its own, its arguments join what follows.
                    index = call["index"]
                    if call.get("id") and index not in opened:
                        opened.append(index)
                        out.append(("opens", call["index"], call["id"], call["function"]["name"]))
                    # What belongs to no call goes on with the last one.
                    index = index if index in opened or not opened else opened[-1]
                    add(("arguments", index), call["function"]["arguments"])
            elif isinstance(value, str):
                add((field,), value)
            elif value:
                out.append((field, value))
        if choice["finish_reason"]:
            out.append(choice["finish_reason"])
    return out


def by_index(parts: list[Any]) -> list[Any]:
    """Arguments of parallel calls may be regrouped between two other things: compare them call by call."""
    out: list[Any] = []
    calls: dict[int, list[Any]] = {}

    def settle() -> None:
        out.extend(calls[index] for index in sorted(calls))
        calls.clear()

    for part in parts:
        if isinstance(part, list) and part[0][0] == "arguments":
            mine = calls.setdefault(part[0][1], [])
            if mine and isinstance(mine[-1], str):
                mine[-1] += part[1]
            else:
                mine.append(part[1])
        elif isinstance(part, tuple) and part[0] == "opens":
            calls.setdefault(part[1], []).append(part)
        else:
            settle()
            out.append(part)
    settle()
    return out


@given(
    bodies=st.one_of(st.lists(CHUNKS, max_size=30), st.lists(EVENTS, max_size=30)),
    cuts=st.lists(st.integers(0, 4000), max_size=12),
    newline=st.sampled_from(["\n", "\r\n"]),
    ascii_only=st.booleans(),
)
def test_a_client_makes_the_same_of_the_merged_stream(
    bodies: list[dict[str, Any]], cuts: list[int], newline: str, ascii_only: bool
) -> None:
    wire = on_the_wire(bodies, newline, ascii_only)
    edges = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    merger = SseMerger()

    merged = b"".join(merger.feed(wire[a:b]) for a, b in itertools.pairwise(edges)) + merger.finish()

    assert by_index(folded(read(merged))) == by_index(folded(bodies))
    assert len(read(merged)) <= len(bodies)


def test_deltas_of_one_kind_become_one() -> None:
    wire = on_the_wire([chunk({"content": t}) for t in "abc"] + [chunk({"reasoning": t}) for t in "de"])

    assert folded(read(SseMerger().feed(wire))) == [[("content",), "abc"], [("reasoning",), "de"]]
    assert len(read(SseMerger().feed(wire))) == 2


def test_parallel_calls_in_fragments_become_one_chunk() -> None:
    fragments = [tool(0, "", id="a"), tool(0, '{"x"'), tool(1, "", id="b"), tool(0, ":1}"), tool(1, "{}")]

    [merged] = read(SseMerger().feed(on_the_wire(fragments)))

    calls = merged["choices"][0]["delta"]["tool_calls"]
    assert [(call["id"], call["function"]["arguments"]) for call in calls] == [("a", '{"x":1}'), ("b", "{}")]


def test_one_delta_alone_passes_as_it_came() -> None:
    wire = b'data:   {"id" : "c", "choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'

    assert SseMerger().feed(wire) == wire


def test_halves_of_an_emoji_that_a_server_escaped_apart_become_one_character() -> None:
    wire = b"".join(
        b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % h for h in (b"\\ud83d", b"\\ude42")
    )

    [merged] = read(SseMerger().feed(wire))

    assert merged["choices"][0]["delta"]["content"] == "🙂"


@pytest.mark.parametrize(
    "halves",
    [
        [chunk({"content": half}) for half in ("a\ud83d", "\ude42b")],
        [chunk({"reasoning": half}) for half in ("a\ud83d", "\ude42b")],
        [responses("response.output_text.delta", 0, half) for half in ("a\ud83d", "\ude42b")],
    ],
)
def test_halves_that_arrive_apart_become_one_character_too(halves: list[dict[str, Any]]) -> None:
    merger = SseMerger()

    said = [folded(read(merger.feed(on_the_wire([half], ascii_only=True)))) for half in halves]

    assert [text for [[_, text]] in said] == ["a", "🙂b"]


def test_half_a_character_without_its_other_half_is_dropped() -> None:
    merger = SseMerger()

    wire = merger.feed(on_the_wire([chunk({"content": "a\ud83d"})], ascii_only=True))
    wire += merger.feed(on_the_wire([chunk({"reasoning": "b"}), chunk({"content": "c"})]))

    assert folded(read(wire)) == [[("content",), "a"], [("reasoning",), "b"], [("content",), "c"]]


@pytest.mark.parametrize(
    "bodies",
    [
        [chunk({"content": "a"}), chunk({"content": "b"}, citations=["x"])],
        [chunk({"content": "a"}), {"id": "c", "choices": [{"index": 1, "delta": {"content": "b"}}]}],
        [chunk({"content": "a"}), chunk({"content": [{"type": "text", "text": "b"}]})],
        [responses("response.output_text.delta", 0, "a"), responses("response.output_text.delta", 1, "b")],
        [responses("response.output_text.delta", 0, "a"), responses("response.output_text.delta", 0, "b")
         | {"logprobs": [{"token": "b"}]}],
    ],
)  # fmt: skip
def test_what_says_more_than_text_is_not_merged(bodies: list[dict[str, Any]]) -> None:
    assert read(SseMerger().feed(on_the_wire(bodies))) == bodies


@pytest.mark.parametrize(
    "event",
    [
        b"data: not json\n\n",
        b"data: [1, 2]\n\n",
        b"id: 7\ndata: {}\n\n",
        b"data: {}\ndata: {}\n\n",
        b'data: {"choices":[null]}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":null}]}}]}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":{"a":1}}}]}}]}\n\n',
    ],
)
def test_what_is_not_understood_passes_as_it_came(event: bytes) -> None:
    assert SseMerger().feed(event) == event


@pytest.mark.parametrize("event", [b": keep-alive", b"event: ping", b"retry: 3000", b": a\n: b", b": a\nid: 7"])
def test_an_event_without_data_is_dropped(event: bytes) -> None:
    assert SseMerger().feed(event + b"\n\n") == b""


@pytest.mark.parametrize("before", [b": keep-alive\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf: keep-alive\n\n"])
def test_a_comment_or_a_mark_before_an_event_does_not_hide_it(before: bytes) -> None:
    wire = on_the_wire([chunk({"content": "a"})])
    merger = SseMerger()

    merged = b"".join(merger.feed(bytes([byte])) for byte in before + wire)

    assert merged == wire


def test_thoughts_that_are_said_under_two_names_are_merged() -> None:
    wire = on_the_wire([chunk({"reasoning": text, "reasoning_content": text}) for text in "ab"])

    [merged] = read(SseMerger().feed(wire))

    assert merged["choices"][0]["delta"] == {"reasoning": "ab", "reasoning_content": "ab"}


def test_thinking_tags_stay_alone() -> None:
    said = ["<think>", "a", "b", "</think>", "c", "d"]

    merged = read(SseMerger().feed(on_the_wire([chunk({"content": text}) for text in said])))

    assert [each["choices"][0]["delta"]["content"] for each in merged] == ["<think>", "ab", "</think>", "cd"]


@pytest.mark.parametrize("done", [b"data: [DONE]\n\n", b""])
def test_of_the_usage_in_each_chunk_only_the_last_counts(done: bytes) -> None:
    wire = on_the_wire([chunk({"content": str(n)}, usage={"total_tokens": n}) for n in (1, 2)])
    wire += on_the_wire([chunk({}, finish="stop", usage={"total_tokens": 3})]) + done
    merger = SseMerger()

    merged = read(merger.feed(wire) + merger.finish())

    assert [each.get("usage") for each in merged] == [None, None, {"total_tokens": 3}]
    assert folded(merged[:2]) == [[("content",), "12"], "stop"]


def test_usage_in_each_chunk_and_in_one_of_its_own_counts_once() -> None:
    own = {"id": "c", "choices": [], "usage": {"total_tokens": 2}}
    wire = on_the_wire([chunk({"content": "a"}, usage={"total_tokens": 1}), own]) + b"data: [DONE]\n\n"

    merged = read(SseMerger().feed(wire))

    assert [each.get("usage") for each in merged] == [None, {"total_tokens": 2}]


def test_calls_that_a_server_gives_the_same_index_are_told_apart() -> None:
    fragments = [tool(0, "{", id="a"), tool(0, "}"), tool(0, "[", id="b"), tool(0, "]"), tool(1, "{}", id="c")]
    last = chunk({"tool_calls": [{"index": 0, "id": "d", "function": {"name": "x"}}]}, finish="tool_calls")

    merged = read(SseMerger().feed(on_the_wire([*fragments, last])))

    calls = [call for each in merged for call in each["choices"][0]["delta"]["tool_calls"]]
    assert [(call["index"], call["id"]) for call in calls] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    assert [call["function"].get("arguments") for call in calls] == ["{}", "[]", "{}", None]


@pytest.mark.parametrize(
    ("end", "ended"),
    [
        (b"data: [DONE]\n\n", True),
        (on_the_wire([chunk({}, finish="stop")]), True),
        (on_the_wire([{"type": "response.completed"}]), True),
        (on_the_wire([{"error": {"message": "x"}, "choices": []}]), True),
        (on_the_wire([chunk({"content": "x"})]), False),
    ],
)
def test_it_knows_whether_the_server_said_the_end(end: bytes, ended: bool) -> None:
    merger = SseMerger()

    merger.feed(end)

    assert merger.ended is ended
