"""The bounds of what an answer of the model asks for, watched while it streams.

The client joins the pieces of a call's arguments, and each time copies all that came before: what is too large at the
end would have taken minutes until then.
"""

from __future__ import annotations

from collections import Counter

from pydantic_ai.messages import (
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    ToolCallPart,
    ToolCallPartDelta,
)

from app.settings import Settings
from worker.orchestrator import TurnFailed


class ArgumentBounds:
    """Of one answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        #: Characters of each call, by the place of its part.
        self._characters: Counter[int] = Counter()
        self._all = 0

    def watch(self, event: ModelResponseStreamEvent) -> None:
        """Raises:
        TurnFailed: a call has larger arguments than it may, or the answer more calls; its code says which.
        """
        match event:
            case PartStartEvent(index=place, part=ToolCallPart(args=args)):
                self._begin(place)
            case PartDeltaEvent(index=place, delta=ToolCallPartDelta(args_delta=args)):
                pass
            case _:
                return
        if isinstance(args, str):
            self._count(place, len(args))

    def _begin(self, place: int) -> None:
        self._characters[place] += 0
        limit = self._settings.max_calls_per_answer
        if len(self._characters) > limit:
            raise TurnFailed("too_many_tool_calls", f"One answer asked for more than {limit} tool calls.")

    def _count(self, place: int, characters: int) -> None:
        self._characters[place] += characters
        self._all += characters
        if self._characters[place] > (limit := self._settings.max_arguments_bytes):
            raise TurnFailed("tool_arguments_too_large", f"The arguments of a tool call have over {limit} bytes.")
        if self._all > (limit := self._settings.max_tool_bytes):
            raise TurnFailed("tool_results_too_large", f"Arguments and results of all tools have over {limit} bytes.")
