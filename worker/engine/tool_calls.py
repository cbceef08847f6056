"""One call of a tool, as the model asked for it: it always has a result, whatever the tool does."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_ai import BinaryContent, RunContext, ToolReturn
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.messages import ToolCallPart, ToolReturnPart, tool_return_ta
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool

from worker.orchestrator import Turn, is_stopped

OUTCOME_UNKNOWN = (
    "The outcome of this call is unknown: the worker stopped while it ran, and it is not safe to run it again. "
    "It may or may not have taken effect."
)


@dataclass(frozen=True)
class ToolResult:
    """The result of a call, for the model and for the user."""

    #: Its `outcome` is `success`, `failed` or, when the call itself was wrong, `retried`.
    part: ToolReturnPart
    duration_ms: int

    @property
    def text(self) -> str:
        """Its text, with a note in place of each file."""
        text = self.part.model_response_str(wrap_if_error=False)
        files = [f"[{file.media_type}, {len(file.data)} bytes]" for file in self._files]
        return "\n".join([text, *files] if text else files)

    @property
    def size(self) -> int:
        """Its bytes, those of its files included."""
        return len(self.text.encode("utf-8", "surrogatepass")) + sum(len(file.data) for file in self._files)

    @property
    def _files(self) -> list[BinaryContent]:
        return [file for file in self.part.files if isinstance(file, BinaryContent)]


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
    started = time.monotonic()
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
        content, outcome = _said_by(error), "failed"
    duration_ms = round((time.monotonic() - started) * 1000)

    def result(content: Any, outcome: Any) -> ToolResult:
        return ToolResult(ToolReturnPart(call.tool_name, content, call.tool_call_id, outcome=outcome), duration_ms)

    try:
        made = result(_as_stored(content), outcome)
        size = made.size
    except ValueError as error:
        return result(f"The result is no JSON: {error}", "failed")
    limit = context.deps.settings.max_content_bytes
    return made if size <= limit else result(f"The result is larger than {limit} bytes.", "failed")


class ToolThreads(Executor):
    """Runs plain functions, each on a thread of its own that a process need not wait for when it ends.

    What they raise always reaches the loop, and never ends it.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - raised again where the call is awaited
                # No asyncio future takes a StopIteration: it would be awaited for ever. SystemExit would end the loop.
                plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
                future.set_exception(error if plain else ToolFailed(_said_by(error)))
            else:
                future.set_result(result)

        # A pool would run out of threads by tools that never return, and be waited for at the exit of the process.
        threading.Thread(target=run, name="tool", daemon=True).start()
        return future


def _ends_the_turn(error: BaseException) -> bool:
    """*error* is not the tool's own: the turn is stopped. A tool may raise CancelledError without that."""
    if isinstance(error, asyncio.CancelledError):
        return is_stopped()
    return isinstance(error, (KeyboardInterrupt, GeneratorExit))


def _said_by(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        return f"{kind}: {error}"
    except Exception:  # noqa: BLE001 - its __str__ is the tool's code as well
        return kind


def _as_stored(content: Any) -> Any:
    """*content* as a checkpoint gives it back: a resumed turn must give the model the same.

    Raises:
        ValueError: it holds what no JSON can say.
    """
    if isinstance(content, str):
        # Lone surrogates: no request to a model can hold them.
        return content.encode("utf-8", "replace").decode()
    if content is None or ToolReturnPart("", content, "").files:
        return content
    return json.loads(tool_return_ta.dump_json(content, by_alias=True))


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
