"""One call of a tool, as the model asked for it: it always has a result, whatever the tool does."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_ai import RunContext, ToolReturn
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.messages import ToolCallPart, ToolReturnPart
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool

from .orchestrator import Turn

OUTCOME_UNKNOWN = (
    "The outcome of this call is unknown: the worker stopped while it ran, and it is not safe to run it again. "
    "It may or may not have taken effect."
)


@dataclass(frozen=True)
class ToolResult:
    """What the model and the user are told about a call."""

    #: Its `outcome` is `success`, `failed` or, when the call itself was wrong, `retried`.
    part: ToolReturnPart
    duration_ms: int

    @property
    def text(self) -> str:
        return self.part.model_response_str(wrap_if_error=False)


def arguments(call: ToolCallPart) -> Any:
    """The arguments as JSON; as text when the model sent something else."""
    if not isinstance(call.args, str):
        return call.args or {}
    try:
        return json.loads(call.args) if call.args.strip() else {}
    except ValueError:
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
    started = time.monotonic()
    try:
        content, outcome = await _run(call, toolset, tools, context, interrupted), "success"
    except ValidationError as error:
        content, outcome = error.errors(include_url=False, include_context=False), "retried"
    except ModelRetry as error:
        content, outcome = error.message, "retried"
    except ToolFailed as error:
        content, outcome = error.message, "failed"
    except Exception as error:  # noqa: BLE001 - whatever a tool raises, the model is told and the turn goes on
        content, outcome = f"{type(error).__name__}: {error}", "failed"
    duration_ms = round((time.monotonic() - started) * 1000)

    def result(content: Any, outcome: Any) -> ToolResult:
        return ToolResult(ToolReturnPart(call.tool_name, content, call.tool_call_id, outcome=outcome), duration_ms)

    try:
        made = result(content, outcome)
        size = len(made.text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        return result(f"The result is no JSON: {error}", "failed")
    limit = context.deps.settings.max_content_bytes
    return made if size <= limit else result(f"The result is larger than {limit} bytes.", "failed")


async def _run(
    call: ToolCallPart,
    toolset: AbstractToolset[Turn],
    tools: dict[str, ToolsetTool[Turn]],
    context: RunContext[Turn],
    interrupted: bool,
) -> Any:
    tool = tools.get(call.tool_name)
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
