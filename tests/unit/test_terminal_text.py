"""Nothing that a server says is obeyed by the terminal that shows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner

from app import cli
from app.api.agent_schemas import AgentOut
from app.api.conversation_schemas import ConversationOut, MatchOut
from app.api.schemas import SessionOut
from app.api_client import ApiError
from app.plain_text import plain

#: Title, clipboard, clear, colours, a link, a bell, a carriage return, the one-byte forms, text that runs backwards.
ESCAPES = "\x1b]0;title\x07\x1b]52;c;YQ==\x07\x1b[2J\x1b[31m\x1b]8;;http://x\x1b\\\r\x9b2J\x9d0;t\x9c\x08\x7f\u202ecba\x00[red]"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Hostile:
    """A server that puts escapes wherever text can stand."""

    events: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, *_: Any, on_retry: Callable[[str], None], **__: Any) -> None:
        on_retry(ESCAPES)

    def start(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"sessionId": "s" + ESCAPES, "conversationId": ESCAPES}

    def follow(self, *_: Any, **__: Any) -> Iterator[dict[str, Any]]:
        yield from self.events

    def sessions(self, **_: Any) -> dict[str, Any]:
        # Every field of a row, whatever its type should be.
        row = dict.fromkeys(SessionOut.model_json_schema()["properties"], ESCAPES)
        return {"sessions": [row, row | {"errorCode": None}]}

    def conversations(self, **_: Any) -> dict[str, Any]:
        return {"conversations": [dict.fromkeys(ConversationOut.model_json_schema()["properties"], ESCAPES)]}

    def search(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"results": [dict.fromkeys(MatchOut.model_json_schema()["properties"], ESCAPES)]}

    def agents(self) -> dict[str, Any]:
        return {"agents": [dict.fromkeys(AgentOut.model_json_schema()["properties"], ESCAPES)]}

    def delete(self, *_: Any) -> None:
        pass

    def cancel(self, *_: Any) -> dict[str, Any]:
        return {"sessionId": ESCAPES, "errorCode": ESCAPES, "status": ESCAPES}


class Refusing(Hostile):
    def start(self, *_: Any, **__: Any) -> dict[str, Any]:
        raise ApiError(400, ESCAPES, ESCAPES)


CALL = {"eventType": "tool_call", "toolCallId": ESCAPES, "toolName": ESCAPES, "toolResult": ESCAPES}
TOOL = CALL | {"toolArgs": {ESCAPES: ESCAPES}, "durationMs": ESCAPES}
#: What no terminal may be sent; its colours and the line of progress are our own.
OBEYED_ANYWHERE = ("\x1b]0;", "\x1b]52;", "\x1b[2J", "\x1b]8;", "\x9b", "\x9d", "\x08", "\x07", "\u202e")
EVENTS = [
    {"seq": 1, "eventType": "thinking", "content": ESCAPES},
    {"seq": 2, "eventType": "delta", "content": "whole \x1b"},
    {"seq": 3, "eventType": "delta", "content": "]0;in two\x07" + ESCAPES},
    {"seq": 4, "toolSuccess": None} | TOOL,
    {"seq": 5, "toolSuccess": False} | TOOL,
    {"seq": 6, "eventType": "thinking", "content": "", "supersedesFrom": 3},
    {
        "seq": 7,
        "eventType": "error",
        "errorCode": ESCAPES,
        "errorMsg": ESCAPES,
        "content": ESCAPES,
        "finishReason": ESCAPES,
    },
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def run(server: type[Hostile], *arguments: str) -> str:
        monkeypatch.setattr(cli, "Server", server)
        monkeypatch.setattr(Hostile, "events", EVENTS)
        result = CliRunner().invoke(cli.main, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.output

    return run


@pytest.mark.parametrize(
    "arguments",
    [["ask", "x"], ["ask", "x", "--json"], ["attach", "x"], ["sessions"], ["sessions", "--json"], ["cancel", "x"],
     ["cancel", "x", "--json"], ["conversations"], ["conversations", "--json"], ["search", "x"], ["agents"],
     ["delete", "--yes", ESCAPES]],
    ids=" ".join,
)  # fmt: skip
def test_no_field_reaches_the_terminal_with_its_escapes(run: Callable[..., str], arguments: list[str]) -> None:
    output = run(Hostile, *arguments)

    assert OBEYED.findall(output) == []


def test_nor_a_terminal_that_is_shown_colours_and_progress(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")

    asked = run(Hostile, "ask", "x") + run(Hostile, "ask", "--plain", "x")
    listed = [run(Hostile, *command) for command in (["sessions"], ["conversations"], ["search", "x"], ["agents"])]
    shown = asked + "".join(listed) + run(Refusing, "ask", "x")

    assert "\x1b[" in shown
    assert [each for each in OBEYED_ANYWHERE if each in shown] == []


def test_no_error_reaches_it_either(run: Callable[..., str]) -> None:
    assert OBEYED.findall(run(Refusing, "ask", "x")) == []


@pytest.mark.parametrize("text", ["plain", "два\nстроки\tи таб", "🙂👩‍👩‍👧 naïve العربية"])
def test_text_stays(text: str) -> None:
    assert plain(text) == text
