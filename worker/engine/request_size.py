"""About how large a model request is: what it counts as if it is cut off."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_ai.messages import ModelMessage, ModelRequest

from app.events import tokens_of


def size_of(messages: Sequence[ModelMessage]) -> int:
    """Tokens that these messages are, about, with their instructions and without what describes the tools."""
    return tokens_of(sum(_bytes_of(message) for message in messages))


def _bytes_of(message: ModelMessage) -> int:
    size = len((message.instructions or "").encode()) if isinstance(message, ModelRequest) else 0
    for part in message.parts:
        for value in (getattr(part, "content", None), getattr(part, "args", None)):
            if value is not None:
                size += len((value if isinstance(value, str) else str(value)).encode("utf-8", "replace"))
    return size
