"""How far a turn has come: what its checkpoints hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest, ModelResponse, ToolReturnPart
from pydantic_ai.usage import RunUsage

_VERSION = 1
_COUNTS = ("requests", "tool_calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


@dataclass
class Progress:
    """What is permanent of a turn.

    The messages end with the last model answer. Its tool calls are *started* together; their *results* come one by
    one. After a crash, a call that was started and has no result may or may not have run: it is *interrupted*.
    """

    #: Of this turn alone, the user's first.
    messages: list[ModelMessage] = field(default_factory=list)
    started: set[str] = field(default_factory=set)
    results: dict[str, ToolReturnPart] = field(default_factory=dict)
    interrupted: frozenset[str] = frozenset()
    usage: RunUsage = field(default_factory=RunUsage)
    #: All of the answer that was said so far.
    text: str = ""
    #: The model that the turn goes on with, when it is not its own.
    model: str | None = None

    def answered(self, messages: list[ModelMessage], calls: Iterable[str], usage: RunUsage, text: str) -> None:
        """The model asked for tool *calls*, which are about to run."""
        self.messages, self.usage, self.text = list(messages), usage, text
        # Ids are the server's, and some use the same ones in each answer.
        self.started, self.results, self.interrupted = set(calls), {}, frozenset()

    def to_state(self) -> dict[str, Any]:
        """As JSON, for a checkpoint."""
        results: list[ModelMessage] = [ModelRequest(parts=list(self.results.values()))]
        return {
            "version": _VERSION,
            "messages": ModelMessagesTypeAdapter.dump_python(self.messages, mode="json"),
            "started": sorted(self.started),
            "results": ModelMessagesTypeAdapter.dump_python(results, mode="json"),
            "usage": {name: getattr(self.usage, name) for name in _COUNTS},
            "text": self.text,
            "model": self.model,
        }

    @classmethod
    def from_state(cls, state: Any) -> Progress:
        """Read what an earlier attempt stored; nothing stored, or by another version, is a fresh start."""
        if not isinstance(state, dict) or state.get("version") != _VERSION:
            return cls()
        [recorded] = ModelMessagesTypeAdapter.validate_python(state["results"])
        results = {part.tool_call_id: part for part in recorded.parts if isinstance(part, ToolReturnPart)}
        started = set(state["started"])
        return cls(
            messages=ModelMessagesTypeAdapter.validate_python(state["messages"]),
            started=started,
            results=results,
            interrupted=frozenset(started - results.keys()),
            usage=RunUsage(**state["usage"]),
            text=state["text"],
            model=state.get("model"),
        )

    @property
    def model_name(self) -> str | None:
        """The model that gave the last answer, as its provider calls it."""
        answers = [message for message in self.messages if isinstance(message, ModelResponse)]
        return answers[-1].model_name if answers else None
