"""One attempt of the engine at a turn: ask the model, run the tools that it asks for, until it has answered.

The loop is our own because each of its steps must be committed before the next one begins; pydantic-ai's agent
has another idea of steps, and took half of the CPU of a turn. Models, messages and tools are pydantic-ai's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import fields, replace
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool
from pydantic_ai.usage import RequestUsage, RunUsage

from app.events import Done, ToolCall, Usage
from worker.orchestrator import Checkpoint, Message, Turn, TurnFailed

from .checkpoint import Progress
from .model_calls import Answer, ModelCalls, Say
from .tool_calls import ToolResult, arguments, run_call
from .whole_text import whole_text

logger = logging.getLogger(__name__)

#: How often in a row the model may call tools wrongly (unknown, bad arguments) before the turn fails.
MAX_WRONG_CALLS = 3
#: How often in a row the model may answer nothing.
MAX_EMPTY_ANSWERS = 2
#: Tokens that a provider may count for one request; more than any model takes is a mistake.
MAX_TOKENS = 10_000_000


class EngineTurn:
    """See the module's docstring."""

    def __init__(
        self,
        turn: Turn,
        models: ModelCalls,
        toolset: AbstractToolset[Turn],
        progress: Progress,
        say: Say,
    ) -> None:
        self.turn = turn
        self._models = models
        self._toolset = toolset
        self._say = say
        self._progress = progress
        self._history = _as_messages(turn.history)

    async def go_on(self) -> None:
        """Run from the last checkpoint to the end.

        Raises:
            TurnFailed: the model does not get to an answer.
        """
        progress = self._progress
        self._usage, self._text = RunUsage() + progress.usage, progress.text
        self._messages = list(progress.messages) or [self._request(UserPromptPart(self.turn.message))]
        context = RunContext(deps=self.turn, model=await self._models.ready(), usage=self._usage)
        self._tools = await self._get_tools(context)
        parameters = ModelRequestParameters(function_tools=[tool.tool_def for tool in self._tools.values()])
        empty = wrong = 0
        if isinstance(self._messages[-1], ModelResponse):
            # A resumed turn begins with the answer that its checkpoint ends with.
            self._messages.append(await self._run_calls(self._messages[-1], context))
        while True:
            answer = await self._ask(parameters)
            response = answer.response
            if response.tool_calls:
                response = _with_new_ids(_with_whole_characters(response), self._messages)
                self._messages.append(response)
                await self._calls_begin(response)
                results = await self._run_calls(response, context)
                self._messages.append(results)
                wrong = wrong + 1 if any(_is_wrong(part) for part in results.parts) else 0
                if wrong > MAX_WRONG_CALLS:
                    raise TurnFailed("model_error", "The model kept calling tools wrongly.")
            elif answer.text:
                if answer.finish_reason == "content_filter":
                    raise TurnFailed("content_filtered", "The model provider filtered the answer.")
                await self._done(answer)
                return
            else:
                empty += 1
                _check_empty(answer, empty)

    async def _get_tools(self, context: RunContext[Turn]) -> dict[str, ToolsetTool[Turn]]:
        try:
            return await self._toolset.get_tools(context)
        except UserError as error:
            logger.warning("tools can't be used together", exc_info=error)
            raise TurnFailed("agent_misconfigured", "Two tools of the agent have the same name.") from error
        except Exception as error:
            logger.warning("MCP server does not tell its tools", exc_info=error)
            raise TurnFailed("tools_unavailable", "A server of tools does not say what it offers.") from error

    def _request(self, *parts: UserPromptPart) -> ModelRequest:
        return ModelRequest(parts=list(parts), instructions=_instructions(self.turn))

    async def _ask(self, parameters: ModelRequestParameters) -> Answer:
        """One model request; shows the answer while it comes."""
        if self._usage.requests >= self.turn.settings.max_model_requests:
            raise TurnFailed("too_many_model_requests", "The turn needed more model requests than are allowed.")
        answer = await self._models.ask([*self._history, *self._messages], parameters, self._text)
        self._text += answer.text
        took = answer.response.usage
        if _is_plausible(took):
            self._usage.incr(took)
            if took.input_tokens or took.output_tokens:
                await self._say(
                    Usage(took.input_tokens, took.output_tokens, took.cache_read_tokens, took.cache_write_tokens)
                )
        else:
            logger.warning("usage that can't be is left out", extra={"session_id": self.turn.session_id})
        self._usage.requests += 1
        return answer

    async def _calls_begin(self, response: ModelResponse) -> None:
        """Record the model's answer and that its calls are about to run: one checkpoint says both."""
        for call in response.tool_calls:
            await self._say(ToolCall(call.tool_call_id, call.tool_name, arguments(call)))
        calls = [call.tool_call_id for call in response.tool_calls]
        self._progress.answered(self._messages, calls, RunUsage() + self._usage, self._text)
        await self._checkpoint()

    async def _run_calls(self, response: ModelResponse, context: RunContext[Turn]) -> ModelRequest:
        """Run the calls that have no recorded result; the request that tells all results to the model."""
        recorded = self._progress.results
        missing = [call for call in response.tool_calls if call.tool_call_id not in recorded]
        # Closed here: a generator that is dropped would leave its tools running.
        async with aclosing(self._results(missing, context)) as results:
            async for call, result in results:
                recorded[call.tool_call_id] = result.part
                await self._say(
                    ToolCall(
                        call.tool_call_id,
                        call.tool_name,
                        arguments(call),
                        tool_result=result.text,
                        tool_success=result.part.outcome == "success",
                        duration_ms=result.duration_ms,
                    )
                )
                await self._checkpoint()
        request = self._request()
        request.parts = [recorded[call.tool_call_id] for call in response.tool_calls]
        return request

    async def _results(
        self, calls: Sequence[ToolCallPart], context: RunContext[Turn]
    ) -> AsyncGenerator[tuple[ToolCallPart, ToolResult]]:
        """Run *calls* at once, and give each result as it comes; one by one if a tool must run alone."""
        alone = any(tool.tool_def.sequential for call in calls if (tool := self._tool(call)) is not None)
        waiting = [calls[n : n + 1] for n in range(len(calls))] if alone else [calls]
        for group in waiting:
            tasks = {asyncio.create_task(self._result(call, context)): call for call in group}
            pending = set(tasks)
            try:
                while pending:
                    ended, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    for task in sorted(ended, key=list(tasks).index):
                        yield tasks[task], task.result()
            finally:
                for task in pending:
                    task.cancel()
                if pending:
                    await asyncio.wait(pending)

    async def _result(self, call: ToolCallPart, context: RunContext[Turn]) -> ToolResult:
        own = replace(context, tool_call_id=call.tool_call_id, tool_name=call.tool_name, messages=self._messages)
        interrupted = call.tool_call_id in self._progress.interrupted
        return await run_call(call, self._toolset, self._tools, own, interrupted)

    def _tool(self, call: ToolCallPart) -> ToolsetTool[Turn] | None:
        return self._tools.get(call.tool_name)

    async def _checkpoint(self) -> None:
        await self._say(Checkpoint(self._progress.to_state()))

    async def _done(self, answer: Answer) -> None:
        usage = self._usage
        counted = Usage(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens)
        await self._say(
            Done(
                content=self._text,
                model=answer.response.model_name or self._models.name,
                usage=counted if counted.total_tokens else None,
                finish_reason=answer.finish_reason,
            )
        )


def _with_whole_characters(response: ModelResponse) -> ModelResponse:
    """*response* with halves of characters joined or replaced: no request and no checkpoint can hold them."""
    return replace(response, parts=[replace(part, **_mended_texts(part)) for part in response.parts])


def _mended_texts(part: ModelResponsePart) -> dict[str, Any]:
    values = {each.name: getattr(part, each.name) for each in fields(part)}
    mended = {name: whole_text(text) for name, text in values.items() if isinstance(text, str)}
    return {name: text for name, text in mended.items() if text != values[name]}


def _with_new_ids(response: ModelResponse, before: Sequence[ModelMessage]) -> ModelResponse:
    """*response* with ids of calls that the turn has not seen: some servers count from 0 in each answer."""
    seen = {
        call.tool_call_id for message in before if isinstance(message, ModelResponse) for call in message.tool_calls
    }
    parts = []
    for part in response.parts:
        if isinstance(part, ToolCallPart):
            number, call_id = 2, part.tool_call_id
            while call_id in seen:
                number, call_id = number + 1, f"{part.tool_call_id}-{number}"
            seen.add(call_id)
            part = replace(part, tool_call_id=call_id)
        parts.append(part)
    return replace(response, parts=parts)


def _is_wrong(part: object) -> bool:
    return getattr(part, "outcome", None) == "retried"


def _is_plausible(usage: RequestUsage) -> bool:
    counts = (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens)
    return all(0 <= count <= MAX_TOKENS for count in counts)


def _check_empty(answer: Answer, empty: int) -> None:
    """See whether it makes sense to ask again after an answer without text and calls."""
    if answer.finish_reason == "length":
        raise TurnFailed("answer_too_long", "The model ran out of tokens before it answered.")
    if answer.finish_reason == "content_filter":
        raise TurnFailed("content_filtered", "The model provider filtered the answer.")
    if empty >= MAX_EMPTY_ANSWERS:
        raise TurnFailed("empty_answer", "The model answered nothing.")


def _instructions(turn: Turn) -> str | None:
    """The agent's, the caller's, and a note of what of the conversation the model is not told."""
    parts = [each for each in (turn.agent.instructions, turn.instructions) if each]
    if turn.omitted:
        parts.append(f"Earlier exchanges of this conversation that did not fit and are left out: {turn.omitted}.")
        if "search_conversation" in turn.agent.tools:
            parts.append("The tool search_conversation finds what was said in them.")
    return "\n\n".join(parts) or None


def _as_messages(history: Sequence[Message]) -> list[ModelMessage]:
    """What was said before as the model's messages."""
    messages: list[ModelMessage] = []
    for message in history:
        if message.role == "user":
            messages.append(ModelRequest(parts=[UserPromptPart(message.content)]))
        elif message.role == "system":
            messages.append(ModelRequest(parts=[SystemPromptPart(message.content)]))
        elif message.content:
            messages.append(ModelResponse(parts=[TextPart(message.content)]))
    return messages
