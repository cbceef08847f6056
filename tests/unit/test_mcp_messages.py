"""Messages of MCP servers: what comes in, and what is understood of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from worker.engine.mcp.messages import Lines, is_heard, read, refusal


def answer(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 3, "result": {"a": 1}} | fields).encode()


@pytest.mark.parametrize(
    ("raw", "result"),
    [
        (answer(), {"a": 1}),
        (b"\xef\xbb\xbf" + answer(), {"a": 1}),
        (answer(error=None), {"a": 1}),
        (answer(id=3.0), {"a": 1}),
        (answer(jsonrpc="1.0"), {"a": 1}),
        (b'{"id": 3, "result": {"a": 1}}', {"a": 1}),
        (b'{"jsonrpc":"2.0","id":3,"result":{"a":"caf\xe9"}}', {"a": "caf\ufffd"}),
        (rb'{"jsonrpc":"2.0","id":3,"result":{"a":"half \ud83d of it"}}', {"a": "half \ufffd of it"}),
        (rb'{"jsonrpc":"2.0","id":3,"result":{"a":"\ud83d\ude00 \u0000"}}', {"a": "\U0001f600 \x00"}),
    ],
)
def test_an_answer_is_read_though_it_is_not_quite_one(raw: bytes, result: dict[str, Any]) -> None:
    [message] = read(raw)

    assert isinstance(message, JSONRPCResponse)
    assert (message.id, message.result) == (3, result)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (answer(result=None), "holds no result"),
        (answer(result=[1]), "holds no result"),
        (answer(result="text"), "holds no result"),
        (answer(result=None, error={"code": "x", "message": "boom"}), "boom"),
        (answer(result=None, error="boom"), "boom"),
        (answer(result=None, error={}), "with an error"),
        (answer()[:-3], "no JSON"),
        (b'{"jsonrpc":"2.0","id":3,"result":{"a":tru}}', "no JSON"),
        (b'{"jsonrpc":"2.0","result":{"id":7,"a":tru},"id":3}', "no JSON"),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error(raw: bytes, said: str) -> None:
    [message] = read(raw)

    assert isinstance(message, JSONRPCError)
    assert message.id == 3
    assert said in message.error.message


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"  ",
        b"Server started \xe2\x9c\x85 on stdio",
        b"d\xe9marrage",
        b"[1, 2",
        b"[1, 2]",
        b"{}",
        b"{",
        b'{"level":"info","msg":"ready","id":3}',
        b'{"level":"error","error":"boom","id":3}',
        b'{"jsonrpc":"2.0","method":"notifications/message","params":{"id":3,"data":"caf\xe9',
        b"\x00\xff\xfe",
    ],
)
def test_noise_is_no_message(raw: bytes) -> None:
    assert read(raw) == []


def test_a_batch_is_several_messages() -> None:
    batch = b"[%s, 7, %s]" % (answer(id=1), b'{"jsonrpc":"2.0","id":"s","method":"ping","params":null}')

    first, second = read(batch)

    assert isinstance(first, JSONRPCResponse)
    assert isinstance(second, JSONRPCRequest)


@pytest.mark.parametrize("depth", [160, 1_000, 100_000])
def test_what_is_nested_too_deeply_is_cut(depth: int) -> None:
    [message] = read(b'{"jsonrpc":"2.0","id":3,"result":{"a":%s1%s,"b":"]"}}' % (b"[" * depth, b"]" * depth))

    assert isinstance(message, JSONRPCResponse)
    assert message.result["b"] == "]"


@pytest.mark.parametrize(
    "result",
    [rb'{"a":"\ud83d","b":%s1%s}' % (b"[" * 400, b"]" * 400), b'{"a":%s1%s}' % (b"[" * 600_000, b"]" * 600_000)],
    ids=["with half a character", "large"],
)
def test_what_can_not_be_cut_is_refused(result: bytes) -> None:
    [message] = read(b'{"jsonrpc":"2.0","id":3,"result":%s}' % result)

    assert isinstance(message, JSONRPCError)
    assert "nested too deeply" in message.error.message


@pytest.mark.parametrize(
    ("method", "heard"),
    [
        ("notifications/progress", False),
        ("notifications/message", False),
        ("notifications/unknown", False),
        ("notifications/tools/list_changed", True),
    ],
)
def test_notifications_that_mean_nothing_to_us_are_not_heard(method: str, heard: bool) -> None:
    assert is_heard(JSONRPCNotification(jsonrpc="2.0", method=method)) == heard


@given(st.binary(max_size=60) | st.text().map(lambda text: json.dumps({"id": 3, "result": text}).encode()))
@settings(max_examples=100)
def test_any_bytes_are_read(raw: bytes) -> None:
    assert len(read(raw)) <= 1


@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=6), st.integers(1, 20))
def test_lines_are_the_same_however_they_are_cut(expected: list[bytes], size: int) -> None:
    raw = b"".join(line + b"\n" for line in expected)
    lines = Lines(1_000)

    found = [line for at in range(0, len(raw), size) for line in lines.feed(raw[at : at + size])] + lines.flush()

    assert found == [(line.rstrip(b"\r"), False) for line in expected]


@pytest.mark.parametrize("size", [1_000, 65_536, 1_000_000])
@pytest.mark.parametrize("number_last", [False, True])
def test_a_line_that_is_too_long_is_cut_and_its_answer_is_refused(size: int, number_last: bool) -> None:
    body = b'"result":{"content":"%s"}' % (b"y" * 300_000)
    raw = b'{"jsonrpc":"2.0",%s,"id":3}' % body if number_last else b'{"jsonrpc":"2.0","id":3,%s}' % body
    lines = Lines(100_000)

    found = [each for at in range(0, len(raw), size) for each in lines.feed(raw[at : at + size])]
    [(line, too_long), after] = found + lines.feed(b"\nnext\n")

    assert too_long
    assert len(line) < 10_000
    assert after == (b"next", False)
    [message] = refusal(line, "too long")
    assert isinstance(message, JSONRPCError)
    assert message.id == 3
