"""What MCP servers answer, mended before the client reads it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp_types import CallToolResult, InitializeResult, ListToolsResult

from tests.unit.test_tool_schemas import JSON
from worker.engine.mcp.results import MAX_PICTURE_BYTES, mended

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
ENCODED = base64.b64encode(PNG).decode()


def called(*content: Any, **result: Any) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = mended("tools/call", {"content": list(content)} | result, print)["content"]
    return blocks


def texts(*content: Any, **result: Any) -> list[str]:
    return [block["text"] for block in called(*content, **result)]


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"type": "text", "text": "hello"}, "hello"),
        ({"type": "text", "text": None}, ""),
        ({"type": "text", "text": {"n": 1}}, '{"n": 1}'),
        ({"text": "no type"}, "no type"),
        ("plain", "plain"),
        (7, "7"),
        ({"type": "text", "text": "half \ud83d of it"}, "half \ufffd of it"),
        ({"type": "audio", "data": "AAEC", "mimeType": "audio/wav"}, "[audio/wav, 3 bytes]"),
        ({"type": "audio", "data": "AAEC"}, "[audio, 3 bytes]"),
        ({"type": "image", "data": "AAEC", "mimeType": "image/png"}, "[image/png, 3 bytes]"),
        ({"type": "image", "data": "?!", "mimeType": "image/png"}, "[image/png, 1 bytes, can't be read]"),
        ({"type": "image", "data": None}, "[image, 0 bytes]"),
        ({"type": "image", "data": "PHN2Zy8+", "mimeType": "image/svg+xml"}, "[image/svg+xml, 6 bytes]"),
        ({"type": "resource", "resource": {"uri": "file:///a", "text": "inside"}}, "inside"),
        ({"type": "resource", "resource": {"uri": "file:///a", "blob": "AAEC"}}, "[file, 3 bytes: file:///a]"),
        (
            {"type": "resource", "resource": {"uri": "a:b", "blob": "AAEC", "mimeType": "application/zip"}},
            "[application/zip, 3 bytes: a:b]",
        ),
        ({"type": "resource", "resource": "x"}, "[content of the unknown kind resource, 37 bytes]"),
        ({"type": "resource_link", "uri": "a:b", "name": "report"}, "[link to report: a:b]"),
        (
            {"type": "resource_link", "uri": "a:b", "name": "r", "mimeType": "text/plain", "size": 9},
            "[link to r (text/plain, 9 bytes): a:b]",
        ),
        ({"type": "hologram", "data": "AAEC"}, "[content of the unknown kind hologram, 36 bytes]"),
        (None, "null"),
    ],
)
def test_content_is_text_or_a_note_of_its_kind_and_size(block: Any, text: str) -> None:
    assert texts(block) == [text]


@pytest.mark.parametrize("data", [ENCODED, f"data:image/png;base64,{ENCODED}", ENCODED.rstrip("="), f"{ENCODED}\n"])
def test_a_picture_is_one_whatever_it_is_said_to_be(data: str) -> None:
    [block] = called({"type": "image", "data": data, "mimeType": "image/x-anything"})

    assert block == {"type": "image", "data": ENCODED, "mimeType": "image/png"}


def test_a_picture_that_is_too_large_for_a_model_is_a_note() -> None:
    data = base64.b64encode(PNG + bytes(MAX_PICTURE_BYTES)).decode()

    assert texts({"type": "image", "data": data, "mimeType": "image/png"}) == [
        f"[image/png, {len(PNG) + MAX_PICTURE_BYTES} bytes]"
    ]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"content": [], "structuredContent": {"n": 1}}, ['{"n": 1}']),
        ({"content": [{"type": "text", "text": '{"n":1}'}], "structuredContent": {"n": 1}}, ['{"n": 1}']),
        ({"structuredContent": {"result": "x"}}, ["x"]),
        ({"structuredContent": [1, 2]}, ["[1, 2]"]),
        ({"content": "just text"}, ["just text"]),
        ({"content": {"type": "text", "text": "one"}}, ["one"]),
        ({"content": None}, []),
        ({}, []),
    ],
)
def test_a_result_is_read_whichever_way_it_says_it(result: dict[str, Any], text: list[str]) -> None:
    assert [block["text"] for block in mended("tools/call", result, print)["content"]] == text


def listed(*tools: Any, **result: Any) -> tuple[list[str], list[tuple[str, str, str]]]:
    told: list[tuple[str, str, str]] = []
    found = mended("tools/list", {"tools": list(tools)} | result, lambda *what: told.append(what))
    ListToolsResult.model_validate(found)
    return [tool["name"] for tool in found["tools"]], told


GOOD = {"name": "ok", "inputSchema": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    ("tool", "reason"),
    [
        ({"name": "bad", "inputSchema": {"type": "string"}}, "its schema describes string, not an object"),
        ({"name": "bad", "inputSchema": "x"}, "its schema is no object"),
        ({"name": "", "inputSchema": {}}, "it has no name"),
        ({"name": 7}, "it has no name"),
        ({"name": " \n"}, "it has no name"),
        ({"name": "x" * 501}, "its name can't be written"),
        ({"name": "\ud83d"}, "its name can't be written"),
        ("bad", "it is no object"),
        (None, "it is no object"),
        (GOOD, "the server lists it twice"),
    ],
)
def test_a_tool_that_can_not_be_used_is_left_out_with_a_reason(tool: Any, reason: str) -> None:
    names, [(_, what, why)] = listed(GOOD, tool)

    assert names == ["ok"]
    assert (what, why) == ("left out", reason)


@pytest.mark.parametrize(
    "more",
    [
        {"annotations": "x"},
        {"description": 7},
        {"title": []},
        {"icons": "x"},
        {"_meta": "x"},
        {"outputSchema": {"type": "strng"}},
        {"execution": 1},
    ],
)
def test_what_nobody_needs_of_a_tool_does_no_harm(more: dict[str, Any]) -> None:
    assert listed(GOOD | more) == (["ok"], [])


def test_a_tool_without_a_schema_is_offered_and_told() -> None:
    assert listed({"name": "none"}) == (["none"], [("none", "got another schema", "missing")])


@pytest.mark.parametrize("tools", [None, "none", {}])
def test_a_list_of_tools_that_is_none_is_empty(tools: Any) -> None:
    assert mended("tools/list", {"tools": tools, "nextCursor": 7}, print) == {"tools": []}


@given(st.dictionaries(st.sampled_from(["name", "inputSchema", "_meta", "description"]), JSON))
@settings(max_examples=50, deadline=None)
def test_any_tool_is_read_or_left_out(tool: dict[str, Any]) -> None:
    names, told = listed(GOOD, tool)

    assert names[0] == "ok"
    assert len(names) == 2 or told


@given(st.dictionaries(st.sampled_from(["content", "structuredContent", "isError"]), JSON | st.lists(JSON)))
@settings(max_examples=50, deadline=None)
def test_any_result_is_read(result: dict[str, Any]) -> None:
    CallToolResult.model_validate(mended("tools/call", result, print))


@pytest.mark.parametrize("field", ["protocolVersion", "capabilities", "serverInfo"])
@pytest.mark.parametrize("value", [None, 7, "2025-06-18", {"name": 1}])
def test_a_handshake_is_read_whatever_it_leaves_out(field: str, value: Any) -> None:
    good = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "a", "version": "1"}}

    InitializeResult.model_validate(mended("initialize", good | {field: value}, print))
    InitializeResult.model_validate(mended("initialize", {}, print))
