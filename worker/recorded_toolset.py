"""Runs a turn's tools so that none runs twice and none can break the turn."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelRetry, RunCancelled, ToolFailed
from pydantic_ai.toolsets import ToolsetTool, WrapperToolset

from .orchestrator import Turn
from .progress import Progress

OUTCOME_UNKNOWN = (
    "The outcome of this call is unknown: the worker stopped while it ran, and it is not safe to run it again. "
    "It may or may not have taken effect."
)


@dataclass
class RecordedToolset(WrapperToolset[Turn]):
    """The tools of one turn: answers recorded calls from the record, and turns what a tool raises into its result."""

    progress: Progress
    max_content_bytes: int
    #: How long each call of this attempt took.
    durations_ms: dict[str, int] = field(default_factory=dict)

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Turn], tool: ToolsetTool[Turn]
    ) -> Any:
        call_id = ctx.tool_call_id or ""
        recorded = self.progress.results.get(call_id)
        if recorded is not None:
            if recorded.outcome == "success":
                return recorded.content
            if recorded.outcome == "retried":
                raise ModelRetry(recorded.model_response_str(wrap_if_error=False))
            raise ToolFailed(recorded.model_response_str(wrap_if_error=False))
        if call_id in self.progress.interrupted and not (tool.tool_def.metadata or {}).get("repeatable"):
            raise ToolFailed(OUTCOME_UNKNOWN)
        started = time.monotonic()
        try:
            result = await self.wrapped.call_tool(name, tool_args, ctx, tool)
        except (ModelRetry, ToolFailed, CallDeferred, ApprovalRequired, RunCancelled):
            raise
        except Exception as error:
            raise ToolFailed(f"{type(error).__name__}: {error}") from error
        finally:
            self.durations_ms[call_id] = round((time.monotonic() - started) * 1000)
        if isinstance(result, str) and len(result.encode("utf-8", "replace")) > self.max_content_bytes:
            raise ToolFailed(f"The result is larger than {self.max_content_bytes} bytes.")
        return result
