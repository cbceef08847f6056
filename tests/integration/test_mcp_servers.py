"""Odd MCP servers, the same over stdio and over streamable HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelRetry, ToolFailed

from app.agents import McpServer
from app.events import ToolCall
from tests.model_server import ModelServer
from tests.odd_mcp_http import over_http
from tests.odd_mcp_server import ASKED, FLOODS
from tests.turns import answer, make_agent, make_settings, make_turn, record, with_engine
from worker.engine import toolsets
from worker.engine.mcp import calls, connection
from worker.engine.mcp.servers import Server, Unavailable
from worker.engine.tool_calls import OUTCOME_UNKNOWN
from worker.orchestrator import Checkpoint

SCRIPT = str(Path(__file__).resolve().parents[1] / "odd_mcp_server.py")
TRANSPORTS = ["stdio", "json", "sse"]
MAX_BYTES = 200_000


def stdio(mode: str, name: str = "odd", **fields: Any) -> McpServer:
    return McpServer(name=name, command=sys.executable, args=("-IS", SCRIPT, mode), **fields)


@pytest.fixture(scope="module")
def http() -> Iterator[str]:
    with over_http() as address:
        yield address


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def make_server(http: str) -> Callable[..., McpServer]:
    """(transport, mode) → a server."""

    def make(transport: str, mode: str = "good", **fields: Any) -> McpServer:
        if transport == "stdio":
            return stdio(mode, **fields)
        return McpServer(name="odd", url=f"{http}/{transport}/{mode}", **fields)

    return make


async def use(server: McpServer, work: Callable[[Any], Awaitable[Any]], start_s: float = 30) -> Any:
    """What *work* makes of the tools of a *server*."""
    used = Server([server], 0, 7, (), MAX_BYTES)
    try:
        async with contextlib.AsyncExitStack() as stack:
            return await work(await used.enter(stack, start_s, may_rest=False))
    finally:
        await used.aclose()


async def names(tools: Any) -> list[str]:
    return list(await tools.get_tools(None))


async def why_unavailable(server: McpServer, start_s: float = 30) -> str:
    with pytest.raises(Unavailable) as raised:
        await use(server, names, start_s)
    return str(raised.value)


@pytest.fixture(scope="module")
def call(runner: asyncio.Runner, http: str) -> Iterator[Callable[[str, str], Any]]:
    """(transport, tool) → what the call gives; each transport has one connection for all tests."""
    used: dict[str, Server] = {}
    holding = contextlib.AsyncExitStack()

    async def called(transport: str, tool: str) -> Any:
        if transport not in used:
            config = stdio("good") if transport == "stdio" else McpServer(name="odd", url=f"{http}/{transport}/good")
            used[transport] = Server([config], 0, 7, (), MAX_BYTES)
            await used[transport].enter(holding, 30, may_rest=False)
        async with contextlib.AsyncExitStack() as stack:
            tools = await used[transport].enter(stack, 30, may_rest=False)
            try:
                return await tools.call_tool(f"odd_{tool}", {}, None, None)  # type: ignore[arg-type]
            except (ToolFailed, ModelRetry) as error:
                return error

    yield lambda transport, tool: runner.run(called(transport, tool))
    runner.run(holding.aclose())
    for server in used.values():
        runner.run(server.aclose())


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("tool", "result"),
    [
        ("plain", "plain says hello"),
        ("bad_utf8", "caf\ufffd"),
        ("half", "half \ufffd of it"),
        ("nul", "nul \x00"),
        ("bad_notification", "bad_notification says hello"),
        ("noise", "noise says hello"),
        ("progress", "progress says hello"),
        ("twice", "twice says hello"),
        ("unknown_ids", "unknown_ids says hello"),
        ("large", "y" * 100_000),
        ("sound", "[audio/wav, 3 bytes]"),
        ("blob", "[application/zip, 3 bytes: a:b]"),
        ("link", "[link to report: a:b]"),
        ("hologram", "[content of the unknown kind hologram, 36 bytes]"),
        ("structured", '{"n": "many"}'),
        ("empty", ""),
        ("no_content", ""),
    ],
)
def test_an_odd_answer_is_read(call: Callable[..., Any], transport: str, tool: str, result: str) -> None:
    assert call(transport, tool) == result


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("tool", "kind", "said"),
    [
        ("is_error", ToolFailed, "disk on fire"),
        ("rpc_error", ToolFailed, "boom"),
        ("wrong_arguments", ModelRetry, "x is missing"),
        ("no_result", ToolFailed, "holds no result"),
        ("no_json", ToolFailed, "no JSON"),
        ("huge", ToolFailed, "larger than 200000 bytes"),
        ("hang", ToolFailed, "did not answer within 0.3 s"),
    ],
)
def test_a_call_that_fails_says_what_happened(
    call: Callable[..., Any], transport: str, tool: str, kind: type, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tool == "hang":
        monkeypatch.setattr(calls, "CALL_S", 0.3)

    error = call(transport, tool)

    assert type(error) is kind
    assert said in str(error)
    assert call(transport, "plain") == "plain says hello"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_answer_that_is_nested_too_deeply_is_cut(call: Callable[..., Any], transport: str) -> None:
    assert "null" in call(transport, "deep")


@pytest.mark.parametrize("transport", ["stdio", "sse"])
def test_what_a_server_asks_is_answered(call: Callable[..., Any], transport: str) -> None:
    said = dict(zip(ASKED, call(transport, "asks").split(), strict=True))

    assert said == dict.fromkeys(ASKED, "error") | {"ping": "ok"}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_that_dies_in_a_call_is_there_for_the_next(call: Callable[..., Any], transport: str) -> None:
    error = call(transport, "die")

    assert isinstance(error, ToolFailed)
    assert "before it answered" in str(error) or "broke off" in str(error)
    assert call(transport, "plain") == "plain says hello"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_turn_goes_on_with_a_server_that_died_in_one_of_its_calls(
    runner: asyncio.Runner, make_server: Callable[..., McpServer], transport: str
) -> None:
    async def call_both(tools: Any) -> str:
        with pytest.raises(ToolFailed):
            await tools.call_tool("odd_die", {}, None, None)
        return str(await tools.call_tool("odd_plain", {}, None, None))

    assert runner.run(use(make_server(transport), call_both)) == "plain says hello"


@pytest.mark.parametrize("transport", ["stdio", "sse"])
def test_a_list_of_tools_that_changed_is_asked_for_anew(
    runner: asyncio.Runner, make_server: Callable[..., McpServer], transport: str
) -> None:
    async def changed(server: Server) -> list[str]:
        async with contextlib.AsyncExitStack() as stack:
            tools = await server.enter(stack, 30, may_rest=False)
            await tools.call_tool("odd_list_changed", {}, None, None)  # type: ignore[arg-type]
            # The first turn still holds the connection.
            found = await names(await server.enter(stack, 30, may_rest=False))
        await server.aclose()
        return found

    assert runner.run(changed(Server([make_server(transport, "changing")], 0, 7, (), MAX_BYTES))) == ["odd_new"]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("mode", "offered"),
    [
        ("old", {"odd_plain"}),
        ("bare", {"odd_plain"}),
        ("noisy", {"odd_plain"}),
        ("same_page", {"odd_plain"}),
        ("pages", {"odd_first", "odd_second"}),
        ("pages_forever", {"odd_tool0", "odd_tool4"}),
        ("schemas", {"odd_ok", "odd_none", "odd_odd"}),
        ("names", {"odd_ok"}),
    ],
)
def test_what_can_be_used_of_a_server_is_offered(
    runner: asyncio.Runner,
    make_server: Callable[..., McpServer],
    transport: str,
    mode: str,
    offered: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "MAX_PAGES", 5)

    found = runner.run(use(make_server(transport, mode), names))

    assert offered <= set(found)
    assert len(found) == {"pages": 2, "pages_forever": 5, "schemas": 3, "names": 6}.get(mode, len(found))


def test_what_is_done_with_a_tool_is_said_once(runner: asyncio.Runner, caplog: pytest.LogCaptureFixture) -> None:
    server = Server([stdio("names")], 0, 7, (), MAX_BYTES)

    async def twice() -> None:
        for _ in range(2):
            async with contextlib.AsyncExitStack() as stack:
                await server.enter(stack, 30, may_rest=False)
        await server.aclose()

    runner.run(twice())

    told = [vars(record) for record in caplog.records if record.message.startswith("MCP tool ")]
    assert {(each["agent"], each["server"]) for each in told} == {(7, "odd")}
    assert sorted((each["tool"], each["message"].split()[2]) for each in told) == [
        ("", "left"),
        ("a.b", "renamed"),
        ("a/b", "renamed"),
        ("größe", "renamed"),
        ("ok", "left"),
        ("with space", "renamed"),
        ("x" * 90, "renamed"),
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("die_init", "before it answered|broke off"),
        ("die_list", "before it answered|broke off"),
        ("hang_init", "did not answer within 0.2 s"),
        ("hang_list", "did not answer within 0.2 s"),
        ("error_list", "answered with an error"),
        ("odd", "speaks a version of MCP that is not supported"),
    ],
)
def test_a_server_that_can_not_be_used_says_what_happened(
    runner: asyncio.Runner, make_server: Callable[..., McpServer], transport: str, mode: str, said: str
) -> None:
    server = make_server(transport, mode)

    why = runner.run(why_unavailable(server, 0.2 if "hang" in mode else 30))

    assert any(each in why for each in said.split("|")), why
    assert "hidden" not in why


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no-type", "plain says hello"),
        ("text-type", "plain says hello"),
        ("events-as-text", "plain says hello"),
        ("wrong-id", "plain says hello"),
        ("session-over", "plain says hello"),
        ("401", "HTTP 401 Unauthorized"),
        ("404", "HTTP 404 Not Found"),
        ("429", "HTTP 429 Too Many Requests"),
        ("503", "HTTP 503 Service Unavailable"),
        ("error-body", "quota"),
        ("html", "text/html in place of a message"),
        ("nothing", "nothing in place of a message"),
        ("accepted", "202 Accepted"),
        ("redirect", "redirects"),
        ("cut", "broke off"),
        ("cut-events", "before it answered"),
    ],
)
def test_a_fault_of_http_hurts_its_call_alone(
    runner: asyncio.Runner, make_server: Callable[..., McpServer], fault: str, said: str
) -> None:
    async def call_both(tools: Any) -> tuple[str, str]:
        try:
            result = await tools.call_tool("odd_plain", {}, None, None)
        except ToolFailed as error:
            result = error.message
        return result, await tools.call_tool("odd_structured", {}, None, None)

    result, after = runner.run(use(make_server(fault), call_both))

    assert said in result
    assert "hidden" not in result
    assert after == '{"n": "many"}'


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("401-init", "HTTP 401 Unauthorized"),
        ("500-init", "HTTP 500 Internal Server Error"),
        ("404-init", "HTTP 404 Not Found"),
        ("html-init", "text/html in place of a message"),
        ("redirect-init", "redirects to another address"),
        ("cut-init", "broke off"),
    ],
)
def test_a_fault_of_http_at_the_start_says_what_happened(
    runner: asyncio.Runner, make_server: Callable[..., McpServer], fault: str, said: str
) -> None:
    why = runner.run(why_unavailable(make_server(fault)))

    assert said in why
    assert "hidden" not in why


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (McpServer(name="odd", command="/nonexistent/server"), "can't be started: No such file or directory"),
        (McpServer(name="odd", command="/"), "can't be started: Permission denied"),
        (stdio("exit"), "ended, or closed the connection, before it answered"),
        (McpServer(name="odd", url="http://127.0.0.1:9/mcp"), "can't be reached"),
    ],
    ids=["missing", "folder", "exit", "refused"],
)
def test_a_server_that_does_not_start_says_what_happened(runner: asyncio.Runner, server: McpServer, said: str) -> None:
    assert said in runner.run(why_unavailable(server))


@pytest.mark.parametrize("mode", FLOODS)
def test_a_server_that_floods_does_not_hold_up_the_loop(
    runner: asyncio.Runner,
    mode: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.engine.mcp.stdio.END_S", 0.1)
    caplog.set_level("INFO", "worker.engine.mcp")

    async def look() -> tuple[Any, float]:
        async def ask(tools: Any) -> Any:
            return await asyncio.gather(*(tools.call_tool("odd_plain", {}, None, None) for _ in range(20)))

        late_s = 0.0
        using = asyncio.create_task(use(stdio(mode), ask))
        while not using.done():
            before = asyncio.get_running_loop().time()
            await asyncio.sleep(0.02)
            late_s = max(late_s, asyncio.get_running_loop().time() - before)
        return await using, late_s

    answers, late_s = runner.run(look())

    assert answers == ["plain says hello"] * 20
    assert late_s < 1.5
    assert len(capfd.readouterr().err) < 1_000_000
    said = [str(vars(record).get("text")) for record in caplog.records if record.message == "MCP server says"]
    assert bool(said) == (mode == "floods_stderr")
    assert "hunter2" not in "".join(said)


def test_a_server_that_ends_when_the_first_message_is_no_handshake_is_started_again(runner: asyncio.Runner) -> None:
    assert "odd_plain" in runner.run(use(stdio("handshake_first"), names))


def says(name: str) -> dict[str, Any]:
    return {"steps": [{"tool": {"index": 0, "id": "a", "name": name, "arguments": "{}"}}]}


FINE = {"steps": [{"text": "Fine."}]}
GOOD = stdio("good", name="good")


def test_an_agent_works_with_the_servers_that_start(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [says("good_plain"), FINE]})
    agent = make_agent(mcp_servers=(stdio("exit"), GOOD, stdio("schemas", name="third")))

    turn = answer(make_settings(model_server), f"openai-chat:{model}", agent=agent)

    assert turn.calls("a")[1].tool_result == "plain says hello"
    offered = {tool["function"]["name"] for tool in model_server.requests(model)[0]["body"]["tools"]}
    assert {"calculate", "good_plain", "third_none"} <= offered


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        ((stdio("exit", required=True), GOOD), ['"odd" ended']),
        ((stdio("exit"), stdio("error_list", name="other")), ['"odd" ended', '"other" answered with an error']),
    ],
    ids=["required", "none"],
)
def test_a_turn_without_its_servers_of_tools_fails(
    model_server: ModelServer, servers: tuple[McpServer, ...], said: list[str]
) -> None:
    turn = answer(make_settings(model_server), "openai-chat:any", agent=make_agent(mcp_servers=servers))

    assert turn.failed == "tools_unavailable"
    assert turn.failure is not None
    assert all(each in turn.failure.detail for each in said)


def test_a_server_that_hangs_is_waited_for_once_by_turns_that_can_do_without_it(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolsets, "MCP_START_S", 1.0)
    settings = make_settings(model_server)
    model = model_server.add({"answers": [FINE]})
    agent = make_agent(mcp_servers=(stdio("hang_init"), GOOD))

    async def two(engine: Any) -> list[Any]:
        turns = []
        for _ in range(2):
            turns.append(await record(engine(make_turn(settings, f"openai-chat:{model}", agent=agent))))
            monkeypatch.setattr(toolsets, "MCP_START_S", 1_000.0)
        return turns

    assert [turn.done.content for turn in with_engine(settings, two)] == ["Fine.", "Fine."]


@pytest.mark.parametrize("model_kind", ["openai-chat", "openai"])
def test_a_picture_leaves_a_note_of_its_kind_and_size_in_the_event(model_server: ModelServer, model_kind: str) -> None:
    model = model_server.add({"answers": [says("odd_picture"), FINE]})

    turn = answer(make_settings(model_server), f"{model_kind}:{model}", agent=make_agent(mcp_servers=(stdio("good"),)))

    assert turn.of(ToolCall)[-1].tool_result == "a cat\n[image/png, 68 bytes]"
    assert "data:image/png;base64," in str(model_server.requests(model)[-1]["body"])


def test_a_call_whose_server_is_away_when_its_turn_is_resumed_has_an_unknown_outcome(
    model_server: ModelServer,
) -> None:
    settings = make_settings(model_server)
    model = model_server.add({"answers": [says("odd_plain"), FINE]})
    turn = make_turn(settings, f"openai-chat:{model}", agent=make_agent(mcp_servers=(stdio("good"), GOOD)))
    died = with_engine(settings, lambda engine: record(engine(turn), lambda event: isinstance(event, Checkpoint)))

    resumed = answer(
        settings,
        f"openai-chat:{model}",
        agent=make_agent(mcp_servers=(stdio("exit"), GOOD)),
        checkpoint=died.checkpoints[0],
    )

    assert resumed.calls("a")[0].tool_result == OUTCOME_UNKNOWN
    assert resumed.done.content == "Fine."
