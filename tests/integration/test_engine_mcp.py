"""Tools that live in MCP servers, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.agents import McpServer
from app.events import ToolCall
from tests.model_server import ModelServer
from tests.turns import answer, make_agent, make_settings, make_turn, record, with_engine
from worker.engine import toolsets
from worker.engine.tool_calls import OUTCOME_UNKNOWN
from worker.orchestrator import Checkpoint

ROOT = Path(__file__).resolve().parents[2]
STDIO = McpServer(
    name="sample", command=sys.executable, args=("-m", "tests.mcp_server"), env={"PYTHONPATH": str(ROOT), "SAMPLE": "x"}
)


@contextmanager
def over_http(port: int = 0) -> Iterator[int]:
    """A server on *port*, or on a free one."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.mcp_server", "--http", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def at(port: int) -> McpServer:
    return McpServer(name="sample", url=f"http://127.0.0.1:{port}/mcp")


@pytest.fixture(scope="module")
def http() -> Iterator[McpServer]:
    with over_http() as port:
        yield at(port)


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest) -> McpServer:
    return STDIO if request.param == "stdio" else request.getfixturevalue("http")


def call(name: str, **arguments: Any) -> dict[str, Any]:
    fragment = {"index": 0, "id": "a", "name": f"sample_{name}", "arguments": json.dumps(arguments)}
    return {"steps": [{"tool": fragment}]}


SAY_RESULT = {"steps": [{"text": "It said: "}, {"echo": "tool"}]}


def servers_left() -> list[int]:
    return [
        child.pid
        for child in psutil.Process().children(recursive=True)
        if "tests.mcp_server" in child.cmdline() and "--http" not in child.cmdline()
    ]


def test_its_tools_are_offered_and_run(model_server: ModelServer, server: McpServer) -> None:
    model = model_server.add({"answers": [call("shout", text="привет"), SAY_RESULT]})
    agent = make_agent(mcp_servers=(server,))

    turn = answer(make_settings(model_server), f"openai-chat:{model}", agent=agent)

    assert turn.done.content == "It said: ПРИВЕТ"
    [_, after] = turn.calls("a")
    assert (after.tool_name, after.tool_result, after.tool_success) == ("sample_shout", "ПРИВЕТ", True)
    offered = {tool["function"]["name"] for tool in model_server.requests(model)[0]["body"]["tools"]}
    assert offered >= {"calculate", "sample_shout", "sample_fail"}
    assert servers_left() == []


def test_a_tool_that_fails_is_told_to_the_model(model_server: ModelServer, server: McpServer) -> None:
    model = model_server.add({"answers": [call("fail", reason="rust"), SAY_RESULT]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}", agent=make_agent(mcp_servers=(server,)))

    assert turn.calls("a")[1].tool_success is False
    assert turn.done.content is not None
    assert "rust" in turn.done.content


def test_turns_share_one_server(model_server: ModelServer) -> None:
    settings = make_settings(model_server)
    model = model_server.add({"answers": [call("whoami"), SAY_RESULT]})
    agent = make_agent(mcp_servers=(STDIO,))

    async def three(engine: Any) -> set[str]:
        turns = [record(engine(make_turn(settings, f"openai-chat:{model}", agent=agent))) for _ in range(3)]
        return {str(turn.done.content) for turn in await asyncio.gather(*turns)}

    said = with_engine(settings, three)

    assert len(said) == 1
    assert said.pop().endswith(" x")


def test_a_turn_inside_a_tool_stops_at_once(model_server: ModelServer, server: McpServer) -> None:
    settings = make_settings(model_server)
    model = model_server.add({"answers": [call("wait")]})
    agent = make_agent(mcp_servers=(server,))

    async def close(engine: Any) -> float:
        events: list[Any] = []

        async def run() -> None:
            async for event in engine(make_turn(settings, f"openai-chat:{model}", agent=agent)):
                events.append(event)

        task = asyncio.create_task(run())
        async with asyncio.timeout(20):
            while not any(isinstance(event, Checkpoint) for event in events):
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        started = time.monotonic()
        task.cancel()
        await asyncio.wait({task})
        return time.monotonic() - started

    # The tool never ends by itself.
    assert with_engine(settings, close) < 5
    assert servers_left() == []


def test_a_server_that_dies_in_a_call_is_told_to_the_model_and_is_there_for_the_next_turn(
    model_server: ModelServer,
) -> None:
    settings = make_settings(model_server)
    dying = model_server.add({"answers": [call("die"), SAY_RESULT]})
    next_one = model_server.add({"answers": [call("shout", text="again"), SAY_RESULT]})
    agent = make_agent(mcp_servers=(STDIO,))

    async def two(engine: Any) -> list[Any]:
        return [
            await record(engine(make_turn(settings, f"openai-chat:{model}", agent=agent)))
            for model in (dying, next_one)
        ]

    first, second = with_engine(settings, two)

    assert first.calls("a")[1].tool_success is False
    assert first.done.content.startswith("It said: ")
    assert second.done.content == "It said: AGAIN"


@asynccontextmanager
async def a_turn_that_goes_on(engine: Any, server: ModelServer, agent: Any) -> AsyncIterator[None]:
    """A turn that holds its servers of tools for as long as the context lasts."""
    model = server.add({"answers": [{"steps": [{"text": "Wait"}, {"stall": True}]}]})
    async with aclosing(engine(make_turn(make_settings(server), f"openai-chat:{model}", agent=agent))) as turn:
        await anext(turn)
        yield


def test_a_server_that_died_is_there_for_the_next_turn_while_another_turn_still_holds_it(
    model_server: ModelServer,
) -> None:
    settings = make_settings(model_server)
    dying = model_server.add({"answers": [call("die"), SAY_RESULT]})
    next_one = model_server.add({"answers": [call("shout", text="again"), SAY_RESULT]})
    agent = make_agent(mcp_servers=(STDIO,))

    async def overlapping(engine: Any) -> Any:
        async with a_turn_that_goes_on(engine, model_server, agent):
            await record(engine(make_turn(settings, f"openai-chat:{dying}", agent=agent)))
            during = await record(engine(make_turn(settings, f"openai-chat:{next_one}", agent=agent)))
        after = await record(engine(make_turn(settings, f"openai-chat:{next_one}", agent=agent)))
        return during, after

    during, after = with_engine(settings, overlapping)

    assert during.done.content == after.done.content == "It said: AGAIN"
    assert servers_left() == []


def test_a_server_is_let_go_when_the_last_of_several_turns_ends(model_server: ModelServer) -> None:
    settings = make_settings(model_server)
    shouting = model_server.add({"answers": [call("shout", text="again"), SAY_RESULT]})
    agent = make_agent(mcp_servers=(STDIO,))

    async def overlapping(engine: Any) -> Any:
        async with a_turn_that_goes_on(engine, model_server, agent):
            await record(engine(make_turn(settings, f"openai-chat:{shouting}", agent=agent)))
        for pid in servers_left():
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        return await record(engine(make_turn(settings, f"openai-chat:{shouting}", agent=agent)))

    assert with_engine(settings, overlapping).done.content == "It said: AGAIN"


def test_a_server_over_http_that_restarts_is_there_again_after_one_failed_call(model_server: ModelServer) -> None:
    settings = make_settings(model_server)
    shouting = model_server.add({"answers": [call("shout", text="again"), SAY_RESULT]})

    async def restarting(engine: Any) -> list[Any]:
        with over_http() as port:
            agent = make_agent(mcp_servers=(at(port),))
            holding = a_turn_that_goes_on(engine, model_server, agent)
            await holding.__aenter__()
        with over_http(port):
            turns = [
                await record(engine(make_turn(settings, f"openai-chat:{shouting}", agent=agent))) for _ in range(2)
            ]
            await holding.__aexit__(None, None, None)
            return turns

    first, second = with_engine(settings, restarting)

    assert first.done
    assert second.done.content == "It said: AGAIN"


def test_turns_that_wait_for_a_server_that_hangs_all_end_in_time(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolsets, "MCP_START_S", 0.5)
    settings = make_settings(model_server)
    hanging = McpServer(name="sample", command=sys.executable, args=("-c", "import time; time.sleep(100)"))
    agent = make_agent(mcp_servers=(hanging,))

    async def three(engine: Any) -> list[str]:
        turns = [record(engine(make_turn(settings, "openai-chat:any", agent=agent))) for _ in range(3)]
        return [turn.failed for turn in await asyncio.gather(*turns)]

    started = time.monotonic()

    assert with_engine(settings, three) == ["tools_unavailable"] * 3
    assert time.monotonic() - started < 5


def test_a_picture_is_a_result_that_survives_a_crash(model_server: ModelServer) -> None:
    settings = make_settings(model_server)
    model = model_server.add({"answers": [call("picture"), {"steps": [{"text": "Nice."}]}]})
    agent = make_agent(mcp_servers=(STDIO,))

    first = answer(settings, f"openai:{model}", agent=agent)
    resumed = answer(settings, f"openai:{model}", agent=agent, checkpoint=json.loads(json.dumps(first.checkpoints[-1])))

    assert first.calls("a")[1].tool_success is True
    assert first.done.content == resumed.done.content == "Nice."
    asked = [request["body"]["input"][-1] for request in model_server.requests(model)]
    assert asked[1] == asked[2]
    assert "a cat" in str(asked[1])


@pytest.mark.parametrize(
    "misconfigured",
    [
        make_agent(tools=("tests.sample_tools:counted", "tests.sample_tools:counted")),
        make_agent(mcp_servers=(STDIO, STDIO)),
    ],
    ids=["functions", "servers"],
)
def test_two_tools_of_one_name_are_agent_misconfigured(model_server: ModelServer, misconfigured: Any) -> None:
    turn = answer(make_settings(model_server), "openai-chat:any", agent=misconfigured)

    assert turn.failed == "agent_misconfigured"


@pytest.mark.parametrize(
    "broken",
    [
        McpServer(name="sample", command="/nonexistent/server"),
        McpServer(name="sample", command=sys.executable, args=("-c", "")),
        McpServer(name="sample", url="http://127.0.0.1:9/mcp"),
    ],
    ids=["missing", "ends", "refused"],
)
def test_a_server_that_can_not_be_reached_is_tools_unavailable(model_server: ModelServer, broken: McpServer) -> None:
    turn = answer(make_settings(model_server), "openai-chat:any", agent=make_agent(mcp_servers=(broken,)))

    assert turn.failed == "tools_unavailable"


@pytest.mark.parametrize("repeatable", [False, True])
def test_its_calls_run_again_after_a_crash_only_if_it_is_declared_repeatable(
    model_server: ModelServer, repeatable: bool
) -> None:
    settings = make_settings(model_server)
    model = model_server.add({"answers": [call("shout", text="hey"), SAY_RESULT]})
    agent = make_agent(mcp_servers=(STDIO.model_copy(update={"repeatable": repeatable}),))
    turn = make_turn(settings, f"openai-chat:{model}", agent=agent)
    died = with_engine(settings, lambda engine: record(engine(turn), lambda event: isinstance(event, Checkpoint)))

    resumed = answer(settings, f"openai-chat:{model}", agent=agent, checkpoint=died.checkpoints[0])

    [result] = resumed.of(ToolCall)
    assert result.tool_result == ("HEY" if repeatable else OUTCOME_UNKNOWN)
