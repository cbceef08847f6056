"""The openai SDK and pydantic-ai make the same answer of a merged stream as of what the server sent."""

from __future__ import annotations

import asyncio
import itertools
import json
import warnings
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import ModelRequest, ToolCallPart, UserPromptPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from worker.engine.sse_merge import SseMerger

TEXTS = st.sampled_from(["<think>", "</think>", "a", " ", "\n\n", "é", "🙂", '{"x":', "1}", "\u2028", "\x00", ""])
OR_NULL = st.one_of(st.none(), TEXTS)


def understood(wire: bytes, api: str) -> Any:
    """What a client makes of *wire*: the parts of the answer and how it ended, or which error it was."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, content=wire)

    async def ask() -> Any:
        http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        client = AsyncOpenAI(api_key="x", base_url="http://server/v1", http_client=http_client, max_retries=0)
        kind = OpenAIChatModel if api == "chat" else OpenAIResponsesModel
        model = kind("some-model", provider=OpenAIProvider(openai_client=client))
        question: list[Any] = [ModelRequest(parts=[UserPromptPart("?")])]
        parameters = ModelRequestParameters()
        try:
            async with model_request_stream(model, question, model_request_parameters=parameters) as stream:
                async for _ in stream:
                    pass
        except Exception as error:  # noqa: BLE001 - both must fail alike, whatever it is
            return type(error).__name__
        finally:
            await client.close()
        response = stream.get()
        parts = [
            # Ids that the server did not give are made up.
            ("call", part.tool_name, part.args, part.tool_call_id.startswith("pyd_ai_") or part.tool_call_id)
            if isinstance(part, ToolCallPart)
            else (part.part_kind, part.content)
            for part in response.parts
        ]
        return parts, response.usage.input_tokens, response.usage.output_tokens, response.finish_reason

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return asyncio.run(ask())


def merged(wire: bytes, cuts: list[int]) -> bytes:
    edges = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    merger = SseMerger()
    return b"".join(merger.feed(wire[a:b]) for a, b in itertools.pairwise(edges)) + merger.finish()


def chunk(delta: Any, finish: str | None = None) -> dict[str, Any]:
    return {"id": "c", "created": 1, "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def fragment(index: int, opens: bool, arguments: str | None) -> dict[str, Any]:
    call: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
    if opens:
        call |= {"id": f"call-{index}", "type": "function"}
        call["function"]["name"] = f"tool{index}"
    return call


FRAGMENTS = st.builds(fragment, st.integers(0, 1), st.booleans(), OR_NULL)
#: What a server may send.
CHUNKS = st.one_of(
    st.builds(lambda text: chunk({"content": text}), OR_NULL),
    st.builds(lambda text, more: chunk({"content": text, "reasoning_content": more}), OR_NULL, OR_NULL),
    st.builds(lambda text, more: chunk({"reasoning": text, "reasoning_content": more}), OR_NULL, OR_NULL),
    st.builds(lambda text: chunk({"content": text}, ""), OR_NULL),
    st.builds(lambda text, finish: chunk({"content": text}, finish), TEXTS, st.sampled_from(["stop", "length", "eos"])),
    st.builds(lambda text: chunk({"refusal": text}), TEXTS),
    st.sampled_from(
        [
            chunk(None),
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": [{"type": "text", "text": "b"}]}),
            {"id": "c", "choices": None},
            {"id": "c", "choices": [None]},
            {"id": "c", "choices": [{"delta": {"content": "z"}}]},
            {"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]},
            {"error": {"message": "no", "code": 503}},
            {"error": "no"},
        ]
    ),
)
#: And what servers send all the same.
ODD_CHUNKS = st.one_of(
    CHUNKS,
    st.builds(lambda calls: chunk({"content": None, "tool_calls": calls}), st.lists(FRAGMENTS, max_size=3)),
    st.builds(
        lambda n: {"id": "c", "choices": [], "usage": {"prompt_tokens": n}}, st.sampled_from([1, 2.5, "3", None])
    ),
    st.sampled_from(
        [
            chunk({"tool_calls": [{"index": 0, "function": None}]}),
            chunk({"tool_calls": [None]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": {"x": 1}}}]}),
            chunk({"tool_calls": [{"function": {"name": "bare", "arguments": "{"}}]}),
            chunk({"tool_calls": [{"function": {"arguments": "}"}}]}),
            chunk({"tool_calls": {"index": "1", "id": 7, "function": {"name": "one", "arguments": None}}}),
            chunk({"thinking": "hm"}),
            chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
            {"id": 7, "created": 1.5, "model": 3, "choices": [{"message": {"content": "whole"}}]},
            {"object": "error", "message": "no"},
            {"detail": "no"},
        ]
    ),
)


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "sequence_number": 1, **fields}


def call_item(item: int) -> dict[str, Any]:
    return {"id": f"i{item}", "type": "function_call", "call_id": f"c{item}", "name": "tool", "arguments": ""}


ITEMS = st.integers(0, 1)
EVENTS = st.one_of(
    st.builds(
        lambda kind, item, text: event(
            kind, item_id=f"i{item}", output_index=item, content_index=0, summary_index=item, delta=text
        ),
        st.sampled_from(
            [
                "response.output_text.delta",
                "response.reasoning_summary_text.delta",
                "response.reasoning_text.delta",
                "response.function_call_arguments.delta",
                "response.refusal.delta",
            ]
        ),
        ITEMS,
        TEXTS,
    ),
    st.builds(lambda item: event("response.output_item.added", output_index=item, item=call_item(item)), ITEMS),
    st.builds(
        lambda code: event("error", code=code, message="no", param=None), st.sampled_from(["server_error", None])
    ),
)


def on_the_wire(sent: list[dict[str, Any]], data: Any) -> list[bytes]:
    """The events, with line ends and comments as servers like them."""
    newline = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    between = data.draw(st.sampled_from(["", f": ping{newline}", f": ping{newline}{newline}"]))
    heads = [f"event: {body['type']}{newline}" if "type" in body else "" for body in sent]
    datas = [f"data: {json.dumps(body)}{newline * 2}" for body in sent]
    events = [(between + head + data).encode() for head, data in zip(heads, datas, strict=True)]
    return events + data.draw(st.sampled_from([[], [f"data: [DONE]{newline * 2}".encode()]]))


@pytest.mark.parametrize(("api", "bodies"), [("chat", CHUNKS), ("responses", EVENTS)])
@settings(max_examples=100)
@given(data=st.data())
def test_a_client_understands_the_merged_stream_as_the_one_that_was_sent(api: str, bodies: Any, data: Any) -> None:
    wire = b"".join(on_the_wire(data.draw(st.lists(bodies, max_size=12)), data))
    cuts = data.draw(st.lists(st.integers(0, 3000), max_size=6))

    assert understood(merged(wire, cuts), api) == understood(wire, api)


@settings(max_examples=40)
@given(data=st.data())
def test_a_client_understands_an_odd_stream_the_same_however_the_network_cuts_it(data: Any) -> None:
    events = on_the_wire(data.draw(st.lists(ODD_CHUNKS, max_size=12)), data)
    cuts = data.draw(st.lists(st.integers(0, 3000), max_size=6))
    merger = SseMerger()
    one_by_one = b"".join(map(merger.feed, events)) + merger.finish()

    assert understood(merged(b"".join(events), cuts), "chat") == understood(one_by_one, "chat")
