"""The orchestrator on pydantic-ai: any model it supports, tools as Python functions and MCP servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pydantic_ai
from pydantic_ai import Agent as AiAgent
from pydantic_ai import FunctionToolset, UsageLimits
from pydantic_ai.exceptions import AgentRunError, UnexpectedModelBehavior
from pydantic_ai.messages import (
    FunctionToolResultEvent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.run import AgentRun
from pydantic_ai.toolsets import AbstractToolset, CombinedToolset
from pydantic_ai.usage import RunUsage

from app.agents import Agent, McpServer
from app.errors import Invalid
from app.events import Delta, Done, Thinking, ToolCall, Usage
from app.settings import Settings

from .model_failures import pause_before_retry_s, turn_failed
from .orchestrator import Checkpoint, Message, Turn, TurnFailed, Yielded
from .progress import Progress
from .providers import Providers
from .recorded_toolset import RecordedToolset
from .tools import load_tool

if TYPE_CHECKING:
    from pydantic_ai.mcp import MCPToolset

logger = logging.getLogger(__name__)

# Otherwise the first turn on a terminal prints an advertisement into the worker's log.
pydantic_ai.BANNER_ENABLED = False

#: Events that may wait between the model and the caller before the model has to wait as well.
MAX_WAITING = 8
#: How often the model may call a tool wrongly (unknown, bad arguments) before the turn fails.
TOOL_RETRIES = 3
#: A server of tools may take this long to start, and a call of one of its tools to answer.
MCP_START_S = 30.0
MCP_CALL_S = 600.0

_Say = Callable[[Yielded], Awaitable[None]]


class Engine:
    """One for a process; calling it answers a turn.

    Connections to models and MCP servers are shared by all turns and belong to the loop of the first one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._providers = Providers(settings)
        self._agents: dict[int, tuple[Agent, _Agent]] = {}
        # Not anyio's: that one has 40 threads, and a cancelled turn would wait for its tool to return.
        self._threads = ThreadPoolExecutor(settings.worker_concurrency, thread_name_prefix="tool")

    async def __call__(self, turn: Turn) -> AsyncIterator[Yielded]:
        """Answer *turn*; see `worker.orchestrator` for what is yielded.

        Raises:
            TurnFailed: with the codes of `worker.model_failures`, `empty_answer`, `tools_unavailable` or
                `agent_misconfigured`.
        """
        channel = _Channel()
        # A task of its own: the caller may take each event in another task, which cancel scopes don't survive.
        task = asyncio.create_task(self._answer(turn, channel.say))
        task.add_done_callback(channel.end)
        try:
            while (item := await channel.take()) is not None:
                yield item
                channel.taken(item)
            await task
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                # Looked at, or asyncio would complain of a failure that came after the turn was closed.
                task.exception()

    async def aclose(self) -> None:
        """Close connections and end MCP servers. No turn may run any more."""
        for _, built in self._agents.values():
            await built.aclose()
        await self._providers.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, turn: Turn, say: _Say) -> None:
        agent = self._agent(turn.agent)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(AiAgent.using_thread_executor(self._threads))
            try:
                await stack.enter_async_context(agent.tools)
            except Exception as error:
                logger.warning("MCP server unavailable", exc_info=error)
                raise TurnFailed("tools_unavailable", "A server of tools can't be reached.") from error
            run = _Run(turn, agent, self._providers, say)
            tries = 1
            while True:
                try:
                    await run.go_on()
                    return
                except AgentRunError as error:
                    pause_s = pause_before_retry_s(error, tries)
                    if run.shown or pause_s is None:
                        raise turn_failed(error) from error
                    tries += 1
                    await asyncio.sleep(pause_s)

    def _agent(self, agent: Agent) -> _Agent:
        known = self._agents.get(agent.id)
        if known is None or known[0] != agent:
            known = self._agents[agent.id] = (agent, _Agent(agent))
        return known[1]


class _Agent:
    """An agent of ours as one of pydantic-ai."""

    def __init__(self, agent: Agent) -> None:
        try:
            tools: list[AbstractToolset[Turn]] = [FunctionToolset([load_tool(name) for name in agent.tools])]
        except Invalid as error:
            raise TurnFailed("agent_misconfigured", error.detail) from error
        self._mcp = [_mcp_toolset(server) for server in agent.mcp_servers]
        for server, toolset in zip(agent.mcp_servers, self._mcp, strict=True):
            # Two servers may both have a `search`.
            prefix = re.sub(r"[^A-Za-z0-9_-]", "_", server.name)
            tools.append(toolset.prefixed(prefix).with_metadata(repeatable=server.repeatable))
        self.tools: AbstractToolset[Turn] = CombinedToolset(tools)
        self.ai = AiAgent[Turn, str](
            deps_type=Turn, instructions=agent.instructions or None, retries={"tools": TOOL_RETRIES, "output": 1}
        )

    async def aclose(self) -> None:
        for toolset in self._mcp:
            # A client that failed to connect raises that again when it is closed, and then leaves its process behind.
            for close in (toolset.client.close, toolset.client.transport.close):
                with contextlib.suppress(Exception):
                    await close()


def _mcp_toolset(server: McpServer) -> MCPToolset[Turn]:
    # Half of the engine's import time and memory: only for agents that use it.
    from pydantic_ai.mcp import MCPToolset

    if server.url is not None:
        from fastmcp.client.transports import StreamableHttpTransport

        transport: Any = StreamableHttpTransport(server.url, headers=dict(server.headers))
    else:
        from fastmcp.client.transports import StdioTransport

        transport = StdioTransport(server.command or "", list(server.args), env=dict(server.env) or None)
    return MCPToolset(
        transport, id=server.name, tool_error_behavior="failed", init_timeout=MCP_START_S, read_timeout=MCP_CALL_S
    )


class _Run:
    """One attempt at a turn."""

    def __init__(self, turn: Turn, agent: _Agent, providers: Providers, say: _Say) -> None:
        self._turn = turn
        self._agent = agent
        self._model, self._model_settings = providers.model(turn.model)
        self._say = say
        self._history = _as_messages(turn.history)
        self._progress = Progress.from_state(turn.checkpoint)
        self._tools = RecordedToolset(agent.tools, self._progress, turn.settings.max_content_bytes)
        self._text = self._progress.text
        #: Something was shown since the last checkpoint: a second try would show it twice.
        self.shown = False

    async def go_on(self) -> None:
        """Run from the last checkpoint to the end.

        Raises:
            AgentRunError: a model request failed.
        """
        progress, settings = self._progress, self._turn.settings
        async with self._agent.ai.iter(
            None if progress.messages else self._turn.message,
            message_history=[*self._history, *progress.messages],
            model=self._model,
            instructions=_note(self._turn),
            deps=self._turn,
            toolsets=[self._tools],
            usage=RunUsage() + progress.usage,
            usage_limits=UsageLimits(request_limit=settings.max_model_requests),
            model_settings=self._model_settings,
            infer_name=False,
        ) as run:
            async for node in run:
                if AiAgent.is_model_request_node(node):
                    await self._stream_answer(node, run)
                elif AiAgent.is_call_tools_node(node):
                    await self._run_tools(node, run)
            await self._finish(run)

    async def _stream_answer(self, node: Any, run: AgentRun[Turn, str]) -> None:
        """Show the model's answer while it comes."""
        # Text after a tool call is a paragraph of its own.
        separate = bool(self._text)
        async with node.stream(run.ctx) as events:
            async for event in events:
                match event:
                    case (
                        PartStartEvent(part=TextPart(content=text))
                        | PartDeltaEvent(delta=TextPartDelta(content_delta=text))
                    ) if text:
                        if separate and not self._text.endswith("\n"):
                            text = "\n\n" + text.lstrip("\n")
                        separate = False
                        self._text += text
                        self.shown = True
                        await self._say(Delta(text))
                    case (
                        PartStartEvent(part=ThinkingPart(content=text))
                        | PartDeltaEvent(delta=ThinkingPartDelta(content_delta=text))
                    ) if text:
                        self.shown = True
                        await self._say(Thinking(text))

    async def _run_tools(self, node: Any, run: AgentRun[Turn, str]) -> None:
        """Record the model's answer, then run the tools that it asks for."""
        calls: dict[str, ToolCallPart] = {call.tool_call_id: call for call in node.model_response.tool_calls}
        progress = self._progress
        # A resumed run begins with the answer that its checkpoint ends with.
        recorded = len(run.all_messages()) == len(self._history) + len(progress.messages)
        if calls and not recorded:
            for call in calls.values():
                await self._say(ToolCall(call.tool_call_id, call.tool_name, _arguments(call)))
            progress.answered(run.all_messages()[len(self._history) :], calls, RunUsage() + run.usage, self._text)
            # One checkpoint says both: the model answered, and these calls are about to run.
            await self._checkpoint()
        told: set[str] = set(progress.results)
        try:
            async with node.stream(run.ctx) as events:
                async for event in events:
                    if isinstance(event, FunctionToolResultEvent) and event.tool_call_id not in told:
                        told.add(event.tool_call_id)
                        await self._tool_result(calls[event.tool_call_id], event)
        except AgentRunError as error:
            for call_id in calls.keys() - told:
                await self._tool_failed(calls[call_id], str(error))
            # Exactly this class: those derived from it say better what went wrong.
            if not calls and type(error) is UnexpectedModelBehavior:
                raise TurnFailed("empty_answer", "The model answered nothing.") from error
            raise

    async def _tool_result(self, call: ToolCallPart, event: FunctionToolResultEvent) -> None:
        part = event.part
        self._progress.results[call.tool_call_id] = part
        await self._say(
            ToolCall(
                call.tool_call_id,
                call.tool_name,
                _arguments(call),
                tool_result=part.model_response_str(wrap_if_error=False),
                tool_success=part.outcome == "success",
                duration_ms=self._tools.durations_ms.get(call.tool_call_id, 0),
            )
        )
        await self._checkpoint()

    async def _tool_failed(self, call: ToolCallPart, reason: str) -> None:
        await self._say(ToolCall(call.tool_call_id, call.tool_name, _arguments(call), reason, False, 0))

    async def _checkpoint(self) -> None:
        await self._say(Checkpoint(self._progress.to_state()))
        self.shown = False

    async def _finish(self, run: AgentRun[Turn, str]) -> None:
        answers = [message for message in run.all_messages() if isinstance(message, ModelResponse)]
        usage = run.usage
        counted = Usage(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens)
        await self._say(
            Done(
                content=self._text,
                model=answers[-1].model_name or self._turn.model,
                usage=counted if counted.total_tokens else None,
            )
        )


class _Channel:
    """Hands what one task says to another, a bounded number of events ahead.

    A checkpoint is said when its taker came back for more: by then it is committed.
    """

    def __init__(self) -> None:
        self._waiting: deque[Yielded] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._committed = asyncio.Event()
        self._ended = False

    async def say(self, item: Yielded) -> None:
        await self._room.wait()
        self._waiting.append(item)
        if len(self._waiting) >= MAX_WAITING:
            self._room.clear()
        self._changed.set()
        if isinstance(item, Checkpoint):
            self._committed.clear()
            await self._committed.wait()

    async def take(self) -> Yielded | None:
        """The next event, or None after the last one."""
        while not self._waiting:
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        item = self._waiting.popleft()
        self._room.set()
        return item

    def taken(self, item: Yielded) -> None:
        if isinstance(item, Checkpoint):
            self._committed.set()

    def end(self, _: object) -> None:
        self._ended = True
        self._changed.set()


def _arguments(call: ToolCallPart) -> Any:
    """The arguments as JSON; as text when the model sent something else."""
    if not isinstance(call.args, str):
        return call.args or {}
    try:
        return json.loads(call.args) if call.args.strip() else {}
    except ValueError:
        return call.args


def _note(turn: Turn) -> str | None:
    """Tells the model what it is not told."""
    if not turn.omitted:
        return None
    note = f"Earlier exchanges of this conversation that did not fit and are left out: {turn.omitted}."
    if "search_conversation" in turn.agent.tools:
        note += " The tool search_conversation finds what was said in them."
    return note


def _as_messages(history: Sequence[Message]) -> list[ModelMessage]:
    """Earlier exchanges as the model's messages: it wants question and answer in turns."""
    messages: list[ModelMessage] = []
    for message in history:
        if message.role == "user":
            messages.append(ModelRequest(parts=[UserPromptPart(message.content)]))
        elif message.content:
            messages.append(ModelResponse(parts=[TextPart(message.content)]))
    # pydantic-ai joins neighbours of one kind; then a turn's own messages could not be told from the history.
    while messages and isinstance(messages[-1], ModelRequest):
        messages.pop()
    return messages
