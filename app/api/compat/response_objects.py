"""The object of a response: from a session's columns, and its id in a path."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from werkzeug.routing import BaseConverter

from app.errors import Invalid
from app.sessions.options import Options

from ..schemas import UUID
from .openai_input import AGENT
from .response_events import usage_json


class ResponseId(BaseConverter):
    """`resp_` and the hex digits of a session's id, in a path."""

    regex = "resp_[0-9a-f]{32}"

    def to_python(self, value: str) -> str:
        return uuid_of(value, "resp_")

    def to_url(self, value: str) -> str:
        return response_id(value)


def response_id(session_id: str) -> str:
    return f"resp_{session_id.replace('-', '')}"


def uuid_of(value: str, prefix: str) -> str:
    """The UUID of an id with this prefix, or of itself.

    Raises:
        Invalid: it is neither.
    """
    digits = value.removeprefix(prefix).replace("-", "").lower()
    dashed = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    if not UUID.fullmatch(dashed):
        raise Invalid(f"{value[:100]!r} is no id of this kind: {prefix}…")
    return dashed


def base_of(row: dict[str, Any], given: Options) -> dict[str, Any]:
    """The object before the answer: of columns that never change."""
    conversation = str(row["conversationId"] or "").replace("-", "")
    parameters = given.parameters
    return {
        "id": response_id(row["sessionId"]),
        "object": "response",
        "created_at": int(datetime.fromisoformat(row["createdAt"]).timestamp()),
        "status": "queued",
        "background": True,
        "error": None,
        "incomplete_details": None,
        "instructions": given.instructions or None,
        "max_output_tokens": parameters.max_tokens,
        "metadata": given.metadata,
        "model": f"{AGENT}{row['agentId']}",
        "output": [],
        "parallel_tool_calls": True,
        "conversation": {"id": f"conv_{conversation}"} if conversation else None,
        "previous_response_id": None,
        "reasoning": {"effort": parameters.reasoning_effort, "summary": None},
        "store": True,
        "temperature": parameters.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": parameters.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def pruned(row: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    """The response of a session whose events retention has deleted: its row has the answer."""
    digits = row["sessionId"].replace("-", "")
    text: dict[str, Any] = {
        "type": "output_text",
        "text": row["finalResponse"] or "",
        "annotations": [],
        "logprobs": [],
    }
    said = {"id": f"msg_{digits}", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    counts = {name: row[name] for name in ("inputTokens", "outputTokens", "cacheReadTokens", "totalTokens")}
    status = {"done": "completed"}.get(row["status"], "cancelled" if row["errorCode"] == "cancelled" else "failed")
    error = {"code": "server_error", "message": f"{row['errorCode']}: {row['errorMessage']}"}
    return shown | {
        "status": status,
        "output": [said] if row["finalResponse"] else [],
        "usage": usage_json(counts),
        "error": error if status == "failed" else None,
    }
