"""What a tool returned, made plain data once: within a limit, and on a thread unless it is small and plain already."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_ai import BinaryContent
from pydantic_ai.messages import ToolReturnPart, tool_return_ta

from worker import noting
from worker.plain import NotPlain, TooLarge, to_json

from .tool_threads import ToolThreads

#: What is larger is made plain on a thread, and kept as text.
SMALL_CHARACTERS = 16 * 1024
#: What pydantic follows is not deeper.
_DEEPEST = 200
#: What a value without a size of its own counts for.
_LEAST_BYTES = 2

_threads = ToolThreads()


async def stored(content: Any, limit: int) -> tuple[Any, str]:
    """*content* as a checkpoint gives it back, and its text: a resumed turn must give the model the same.

    Raises:
        TooLarge: it has over *limit* bytes.
        ValueError: it holds what no JSON can say.
        ToolFailed: its own code raised what is no Exception.
    """
    if content is None or type(content) is str:
        return _stored(content, limit)
    try:
        to_json(content, SMALL_CHARACTERS)
    except (NotPlain, TooLarge):
        # It may run code of its own, or for long, or for ever.
        made: tuple[Any, str] = await asyncio.get_running_loop().run_in_executor(
            _threads, noting.on_thread(_stored), content, limit
        )
        return made
    return _stored(content, limit)


def _stored(content: Any, limit: int) -> tuple[Any, str]:
    if isinstance(content, str):
        if len(content) > limit:
            raise TooLarge(f"larger than {limit} bytes")
        # Lone surrogates: no request to a model can hold them.
        content = content.encode("utf-8", "replace").decode()
    elif content is not None and not ToolReturnPart("", content, "").files:
        content = json.loads(tool_return_ta.dump_json(_bounded(content, _Room(limit).take, 0), by_alias=True))
    part = ToolReturnPart("", content, "")
    files = [file for file in part.files if isinstance(file, BinaryContent)]
    notes = [f"[{file.media_type}, {len(file.data)} bytes]" for file in files]
    text = part.model_response_str(wrap_if_error=False)
    text = "\n".join([text, *notes] if text else notes) if notes else text
    if len(text.encode("utf-8", "surrogatepass")) + sum(len(file.data) for file in files) > limit:
        raise TooLarge(f"larger than {limit} bytes")
    # Of large values the text is kept: they are serialised with each checkpoint, and the model is told the text anyway.
    is_plain = isinstance(content, dict | list) and not files
    return (text if is_plain and len(text) > SMALL_CHARACTERS else content), text


class _Room:
    """Counts down the bytes that are left."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit

    def take(self, size: int) -> None:
        self._left -= max(size, _LEAST_BYTES)
        if self._left < 0:
            raise TooLarge(f"larger than {self._limit} bytes")


def _bounded(value: Any, take: Callable[[int], None], depth: int) -> Any:
    """*value* with lists in place of iterators: serialising one without an end would never end."""
    if depth > _DEEPEST:
        raise ValueError("nested too deep")
    take(len(value) if isinstance(value, str | bytes | bytearray) else 0)
    if isinstance(value, dict):
        return {_bounded(key, take, depth + 1): _bounded(item, take, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | deque | Iterator):
        return [_bounded(item, take, depth + 1) for item in value]
    inner: list[Any] = []
    if isinstance(value, BaseModel):
        inner = list(vars(value).values())
    elif is_dataclass(value) and not isinstance(value, type):
        inner = [getattr(value, each.name, None) for each in fields(value)]
    for item in inner:
        if isinstance(item, Iterator):
            raise ValueError(f"{type(value).__name__} holds an iterator")
        _bounded(item, take, depth + 1)
    return value
