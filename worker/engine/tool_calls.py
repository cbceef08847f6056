"""One call of a tool, as the model asked for it: it always has a result, whatever the tool does."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_ai import RunContext, ToolReturn
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.messages import ToolCallPart, ToolReturnPart
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool

from worker.orchestrator import Turn, is_stopped
from worker.plain import TooLarge

from . import watched
from .tool_results import stored
from .tool_threads import said_by

logger = logging.getLogger(__name__)

#: Characters of a tool's error that the log has.
_LOGGED = 500
OUTCOME_UNKNOWN = (
    "The outcome of this call is unknown: the worker stopped while it ran, and it is not safe to run it again. "
    "It may or may not have taken effect."
)


@dataclass(frozen=True)
class ToolResult:
    """The result of a call, for the model and for the user."""

    #: Its `outcome` is `success`, `failed` or, when the call itself was wrong, `retried`.
    part: ToolReturnPart
    #: With a note in place of each file.
    text: str
    duration_ms: int


def arguments(call: ToolCallPart) -> Any:
    """The arguments as JSON; as text when the model sent something else."""
    if not isinstance(call.args, str):
        return call.args or {}
    try:
        return json.loads(call.args) if call.args.strip() else {}
    except (ValueError, RecursionError):
        return call.args


async def run_call(
    call: ToolCallPart,
    toolset: AbstractToolset[Turn],
    tools: dict[str, ToolsetTool[Turn]],
    context: RunContext[Turn],
    interrupted: bool,
) -> ToolResult:
    """Run *call*; what goes wrong becomes its result.

    A call that was *interrupted* when an earlier worker died runs again only if its tool is declared repeatable.
    """
    with watched.tool_call(call.tool_name, call.tool_call_id, is_known=call.tool_name in tools) as seen:
        result = await _result(call, toolset, tools, context, interrupted)
        seen.returned(result.part.outcome, call.args, result.text)
    if result.part.outcome == "failed":
        turn = context.deps
        fields = {"session_id": turn.session_id, "attempt": turn.attempt, "tool": call.tool_name}
        logger.warning("tool failed", extra=fields | {"error": result.text[:_LOGGED]})
    return result


async def _result(
    call: ToolCallPart,
    toolset: AbstractToolset[Turn],
    tools: dict[str, ToolsetTool[Turn]],
    context: RunContext[Turn],
    interrupted: bool,
) -> ToolResult:
    started = time.monotonic()
    outcome: Literal["success", "failed", "retried"]
    try:
        content, outcome = await _run(call, toolset, tools, context, interrupted), "success"
    except ValidationError as error:
        content, outcome = error.errors(include_url=False, include_context=False), "retried"
    except ModelRetry as error:
        content, outcome = error.message, "retried"
    except ToolFailed as error:
        content, outcome = error.message, "failed"
    except BaseException as error:
        if _ends_the_turn(error):
            raise
        content, outcome = said_by(error), "failed"
    duration_ms = round((time.monotonic() - started) * 1000)

    try:
        content, text = await stored(content, context.deps.settings.max_content_bytes)
    except BaseException as error:
        if _ends_the_turn(error):
            raise
        why = str(error) if isinstance(error, TooLarge) else f"no JSON: {said_by(error)}"
        content = text = f"The result is {why}."
        outcome = "failed"
    part = ToolReturnPart(call.tool_name, content, call.tool_call_id, outcome=outcome)
    return ToolResult(part, text, duration_ms)


def _ends_the_turn(error: BaseException) -> bool:
    """*error* is not the tool's own: the turn is stopped. A tool may raise CancelledError without that."""
    return isinstance(error, asyncio.CancelledError) and is_stopped()


async def _run(
    call: ToolCallPart,
    toolset: AbstractToolset[Turn],
    tools: dict[str, ToolsetTool[Turn]],
    context: RunContext[Turn],
    interrupted: bool,
) -> Any:
    tool = tools.get(call.tool_name)
    if tool is None and interrupted:
        # Its server can't be used at the moment.
        raise ToolFailed(OUTCOME_UNKNOWN)
    if tool is None:
        raise ModelRetry(f"There is no tool {call.tool_name!r}; there are: {', '.join(sorted(tools)) or 'none'}.")
    validate = tool.args_validator
    if isinstance(call.args, str):
        given = validate.validate_json(call.args if call.args.strip() else "{}")
    else:
        given = validate.validate_python(call.args or {})
    if interrupted and not (tool.tool_def.metadata or {}).get("repeatable"):
        raise ToolFailed(OUTCOME_UNKNOWN)
    returned = await toolset.call_tool(call.tool_name, given, context, tool)
    return returned.return_value if isinstance(returned, ToolReturn) else returned
