"""The door: what an orchestrator yields is made plain data here, once, and within the bounds of its turn.

Behind it there are exact built-in types of a known size only: the event writer, which all sessions share, runs nobody's
code and serialises nothing. Text is kept whatever stands beside it: a count, a name or arguments that make no sense are
clipped or left out, and logged.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from app.events import Delta, Done, JsonText, Thinking, ToolCall, Usage
from app.events.log import DEEPEST_JSON
from app.settings import Settings
from worker import noting
from worker.orchestrator import Asked, Checkpoint, TurnFailed
from worker.plain import Json, NotPlain, TooLarge, is_a, number_of, text_of, to_json

logger = logging.getLogger(__name__)

#: What is larger is serialised on a thread.
AT_ONCE_CHARACTERS = 16 * 1024
_NAME_CHARACTERS = 128
_REASON_CHARACTERS = 32
_CUT = "\n… (cut: the result was too large)"


class AnswerTooLarge(Exception):
    """The answer is larger than what can be stored."""


@dataclass(frozen=True, slots=True)
class State:
    """A checkpoint's state as JSON text."""

    text: str


Plain = Delta | Thinking | ToolCall | Done | State | Asked | Usage


class Door:
    """The door of one turn.

    Args:
        max_content_bytes: Of the answer, and of each result of a tool.
        in_thread: Runs a function on a thread.
        fields: Of log records.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        max_content_bytes: int,
        in_thread: Callable[..., Awaitable[Any]],
        fields: dict[str, object],
    ) -> None:
        self._settings = settings
        self._max_content_bytes = max_content_bytes
        self._in_thread = in_thread
        self._fields = fields
        #: The answer so far; `add` keeps it.
        self._text: list[str] = []
        self._answer_bytes = self._thinking_bytes = self._tool_bytes = self._started = 0
        # Pieces and bytes of the answer that a withdrawal leaves.
        self._kept = (0, 0)

    @property
    def answer(self) -> str:
        """The deltas joined."""
        return "".join(self._text)

    @property
    def said_bytes(self) -> int:
        """Of answer and thoughts."""
        return self._answer_bytes + self._thinking_bytes

    def add(self, text: str) -> None:
        """Count *text* as a part of the answer.

        Raises:
            AnswerTooLarge: the answer would be.
        """
        self._answer_bytes += _bytes_of(text, self._max_content_bytes)
        if self._answer_bytes > self._max_content_bytes:
            raise AnswerTooLarge
        self._text.append(text)

    def keep(self) -> None:
        """What was said so far stands for good."""
        self._kept = (len(self._text), self._answer_bytes)

    def withdraw(self) -> None:
        """Take back the text since the last `keep`."""
        pieces, self._answer_bytes = self._kept
        del self._text[pieces:]

    async def take(self, step: object) -> Plain | None:
        """*step* as plain data; None: it says nothing.

        Raises:
            AnswerTooLarge: the answer is.
            TurnFailed: another bound of the turn is reached; its code says which.
            TypeError, ValueError: it is nothing that an orchestrator yields.
        """
        text = text_of(step.content if is_a(step, Delta) else step)
        if text is not None:
            if text:
                self.add(text)
            return Delta(text) if text else None
        if is_a(step, Thinking):
            return self._thinking(text_of(step.content))
        if is_a(step, ToolCall):
            return await self._tool_call(step)
        if is_a(step, Checkpoint):
            return await self._state(step.state)
        if is_a(step, Done):
            return self._done(step)
        if is_a(step, Asked):
            tokens = self._number(step.input_tokens, "inputTokens") or 0
            return Asked(tokens, self._optional_text(step.model, _NAME_CHARACTERS, "model"))
        if is_a(step, Usage):
            return self._usage(step)
        raise TypeError(f"an orchestrator can't yield a {type(step).__name__}")

    def _thinking(self, text: str | None) -> Thinking | None:
        if text is None:
            raise TypeError("the content of Thinking is no text")
        limit = self._settings.max_thinking_bytes
        self._thinking_bytes += _bytes_of(text, limit)
        if self._thinking_bytes > limit:
            raise TurnFailed("thinking_too_long", f"The turn thought more than {limit} bytes.")
        return Thinking(text) if text else None

    async def _state(self, state: object) -> State:
        # All sessions wait while one of their states is stored.
        limit = self._settings.max_checkpoint_bytes
        try:
            return State((await self._to_json(state, limit, ascii_only=True)).text)
        except TooLarge:
            raise TurnFailed("checkpoint_too_large", f"The state to resume from has over {limit} bytes.") from None

    async def _tool_call(self, call: ToolCall) -> ToolCall:
        result, success = self._result(call.tool_result), call.tool_success
        self._count_calls(starts=success is None)
        args = await self._arguments(call.tool_args)
        self._tool_bytes += _bytes_of(result or "", self._max_content_bytes) + len(args.text if args else "")
        limit = self._settings.max_tool_bytes
        if self._tool_bytes > limit:
            raise TurnFailed("tool_results_too_large", f"Arguments and results of all tools have over {limit} bytes.")
        return ToolCall(
            tool_call_id=self._name(call.tool_call_id, "toolCallId"),
            tool_name=self._name(call.tool_name, "toolName"),
            tool_args=args,
            tool_result=result,
            tool_success=None if success is None else success is True or number_of(success) == 1,
            duration_ms=self._number(call.duration_ms, "durationMs"),
        )

    def _count_calls(self, *, starts: bool) -> None:
        # Calls of one answer begin together.
        self._started = self._started + 1 if starts else 0
        limit = self._settings.max_calls_per_answer
        if self._started > limit:
            raise TurnFailed("too_many_tool_calls", f"One answer asked for more than {limit} tool calls.")

    async def _arguments(self, args: object) -> JsonText | None:
        if args is None:
            return None
        limit = self._settings.max_arguments_bytes
        try:
            made = await self._to_json(args, limit)
        except TooLarge:
            raise TurnFailed(
                "tool_arguments_too_large", f"The arguments of a tool call have over {limit} bytes."
            ) from None
        except NotPlain as error:
            self._log("toolArgs", str(error))
            return None
        whole = made.finite and made.depth <= DEEPEST_JSON
        # A reader may know no NaN, and have less stack left than the writer had.
        return JsonText(made.text if whole else json.dumps(made.text, ensure_ascii=False))

    def _result(self, result: object) -> str | None:
        text = text_of(result)
        if text is None:
            if result is not None:
                self._log("toolResult", type(result).__name__)
            return None if result is None else ""
        if len(text) <= self._max_content_bytes // 4:
            return text
        # No more than can be kept: what is cut off need not be encoded.
        encoded = text[: self._max_content_bytes + 1].encode("utf-8", "replace")
        if len(encoded) <= self._max_content_bytes:
            return text
        return encoded[: self._max_content_bytes].decode("utf-8", "ignore") + _CUT

    def _done(self, done: Done) -> Done:
        content = text_of(done.content)
        if content is None and done.content is not None:
            raise TypeError("the content of Done is no text")
        if content is not None and _bytes_of(content, self._max_content_bytes) > self._max_content_bytes:
            raise AnswerTooLarge
        return Done(
            content=self.answer if content is None else content,
            model=self._optional_text(done.model, _NAME_CHARACTERS, "model") or "",
            usage=self._usage(done.usage),
            finish_reason=self._optional_text(done.finish_reason, _REASON_CHARACTERS, "finishReason"),
        )

    def _usage(self, usage: object) -> Usage | None:
        if usage is None:
            return None
        if not is_a(usage, Usage):
            self._log("usage", type(usage).__name__)
            return None
        names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
        counts = [self._number(getattr(usage, name), name) or 0 for name in names]
        return Usage.of(counts, estimated=usage.estimated is True)

    def _number(self, value: object, what: str) -> int | None:
        number = number_of(value)
        if number is None and value is not None:
            self._log(what, type(value).__name__)
        elif is_a(value, int) and int.__ne__(value, number):
            self._log(what, "clipped")
        return number

    def _name(self, value: object, what: str) -> str:
        text = self._optional_text(value, _NAME_CHARACTERS, what)
        if text is None:
            number = number_of(value)
            text = "" if number is None else str(number)
        return text

    def _optional_text(self, value: object, limit: int, what: str) -> str | None:
        text = text_of(value)
        if text is None and value is not None:
            self._log(what, type(value).__name__)
        return None if text is None else text[:limit]

    def _log(self, what: str, why: str) -> None:
        logger.warning("value of a turn left out or clipped", extra=self._fields | {"value": what, "why": why[:200]})

    async def _to_json(self, value: object, limit: int, *, ascii_only: bool = False) -> Json:
        at_once = min(limit, AT_ONCE_CHARACTERS)
        try:
            return to_json(value, at_once, ascii_only=ascii_only)
        except TooLarge:
            if at_once == limit:
                raise
        made: Json = await self._in_thread(noting.on_thread(lambda: to_json(value, limit, ascii_only=ascii_only)))
        return made


def _bytes_of(text: str, limit: int) -> int:
    """Bytes of *text* in UTF-8; of one that is over *limit* anyway, its characters."""
    return len(text) if len(text) > limit else len(text.encode("utf-8", "surrogatepass"))
