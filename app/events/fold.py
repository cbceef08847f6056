"""The fold of a session's events: events in, ordered parts and moves out. Pure; every reader of events uses it.

A part is a run of reasoning or of text, or one tool call. `tests/fold_vectors.json` states what the fold does, case by
case; the browser's reducer passes the same file.

    move      what happened
    open      a part of text or reasoning began; its first piece follows
    piece     text was added to the open part
    close     the open part ended: another kind follows, or the end
    tool      a tool call began
    tool_end  its result came
    reset     an event superseded earlier ones: `lost` are the parts that are gone; pieces of older parts may be, too
    end       the session ended
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

#: An event as the API shows it: `seq`, `eventType` and the fields of its type.
EventJson = Mapping[str, Any]

PartKind = Literal["reasoning", "text", "tool"]
MoveKind = Literal["open", "piece", "close", "tool", "tool_end", "reset", "end"]

_KINDS: dict[str, PartKind] = {"thinking": "reasoning", "delta": "text"}
_RESULT = ("toolResult", "toolSuccess", "durationMs")
#: Of a terminal event: what is said of the event itself, and of its text, is not the end's.
_NOT_OF_THE_END = frozenset(
    {"id", "sessionId", "seq", "eventType", "attempt", "createdAt", "content", "supersedesFrom"}
)


@dataclass(slots=True, eq=False)
class Part:
    """A run of reasoning or text, or one tool call."""

    kind: PartKind
    #: 0, 1, 2, … by first appearance; never used again, also not after a reset.
    n: int
    #: Of text and reasoning its pieces; of a tool call the event that began it.
    events: list[EventJson]
    #: Of a tool call: the event with its result; None: it is open.
    result: EventJson | None = None

    @property
    def seq(self) -> int:
        """Of its first event."""
        return int(self.events[0]["seq"])

    @property
    def text(self) -> str:
        return "".join(event["content"] for event in self.events)

    @property
    def tool_call_id(self) -> str:
        """Rows of the first deployment have none: theirs is made of the seq."""
        return str(self.events[0]["toolCallId"] or f"call_{self.seq}")

    def to_json(self) -> dict[str, Any]:
        """The part in the shape of the vectors."""
        if self.kind != "tool":
            return {"kind": self.kind, "n": self.n, "text": self.text}
        begun = self.events[0]
        return {
            "kind": "tool",
            "n": self.n,
            "toolCallId": self.tool_call_id,
            "toolName": begun["toolName"],
            "toolArgs": begun["toolArgs"],
        } | {name: None if self.result is None else self.result[name] for name in _RESULT}


@dataclass(frozen=True, slots=True)
class Move:
    """One step of the fold; see the module's docstring."""

    kind: MoveKind
    part: Part | None = None
    #: Of `piece`.
    text: str = ""
    #: Of `reset`.
    lost: tuple[Part, ...] = ()


@dataclass(slots=True)
class Fold:
    """The parts after all events so far."""

    parts: list[Part] = field(default_factory=list)
    #: The terminal event; None while the session runs.
    ended_by: EventJson | None = None
    _count: int = 0

    def add(self, event: EventJson) -> list[Move]:
        """Take the next event; what follows a terminal event does not count."""
        return list(self.moves(event))

    def moves(self, event: EventJson) -> Iterator[Move]:
        """Take the next event in steps: at a `reset` the parts are those that it left, before what comes after it.

        To be taken to its end.
        """
        if self.ended_by is not None:
            return
        if event.get("supersedesFrom") is not None:
            yield from self._supersede(event["supersedesFrom"])
        kind = event["eventType"]
        if kind in _KINDS:
            yield from self._say(_KINDS[kind], event)
        elif kind == "tool_call":
            yield from self._tool_call(event)
        elif kind in ("done", "error"):
            yield from self._end(event)

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(part.text for part in self.parts if part.kind == "text")

    @property
    def end(self) -> dict[str, Any] | None:
        """How the session ended: `type`, the whole text as `content`, and the terminal event's own fields."""
        if self.ended_by is None:
            return None
        own = {name: value for name, value in self.ended_by.items() if name not in _NOT_OF_THE_END}
        return {"type": self.ended_by["eventType"], "content": self.text} | own

    def _open_part(self) -> Part | None:
        last = self.parts[-1] if self.parts else None
        return None if last is None or last.kind == "tool" else last

    def _say(self, kind: PartKind, event: EventJson) -> list[Move]:
        content = event["content"]
        if not content:
            return []
        part = self._open_part()
        if part is not None and part.kind == kind:
            part.events.append(event)
            return [Move("piece", part, content)]
        return [*self._close(), *self._begin(kind, event), Move("piece", self.parts[-1], content)]

    def _begin(self, kind: PartKind, event: EventJson) -> list[Move]:
        part = Part(kind, self._count, [event])
        self._count += 1
        self.parts.append(part)
        return [Move("tool" if kind == "tool" else "open", part)]

    def _close(self) -> list[Move]:
        part = self._open_part()
        return [] if part is None else [Move("close", part)]

    def _tool_call(self, event: EventJson) -> list[Move]:
        call = self._open_call(event)
        if event["toolSuccess"] is None:
            # A known id: the call was resumed. Without an id nobody can tell, so it is another one.
            if call is not None and event["toolCallId"] is not None:
                return []
            return [*self._close(), *self._begin("tool", event)]
        moves: list[Move] = []
        if call is None:
            moves = [*self._close(), *self._begin("tool", event)]
            call = self.parts[-1]
        call.result = event
        return [*moves, Move("tool_end", call)]

    def _open_call(self, event: EventJson) -> Part | None:
        """The open call that *event* belongs to: by its id; without one the oldest of its name without one."""
        call_id = event["toolCallId"]
        for part in self.parts:
            if part.kind != "tool" or part.result is not None or part.events[0]["toolCallId"] != call_id:
                continue
            if call_id is not None or part.events[0]["toolName"] == event["toolName"]:
                return part
        return None

    def _supersede(self, seq: int) -> list[Move]:
        lost = tuple(part for part in self.parts if part.seq >= seq)
        self.parts = [part for part in self.parts if part.seq < seq]
        cut = bool(lost)
        for part in self.parts:
            if part.result is not None and part.result["seq"] >= seq:
                part.result, cut = None, True
            if part.events[-1]["seq"] >= seq:
                part.events, cut = [event for event in part.events if event["seq"] < seq], True
        return [Move("reset", lost=lost)] if cut else []

    def _end(self, event: EventJson) -> Iterator[Move]:
        content = event["content"]
        if content != self.text and (content or event["eventType"] == "done"):
            lost = tuple(part for part in self.parts if part.kind == "text")
            self.parts = [part for part in self.parts if part.kind != "text"]
            if lost:
                yield Move("reset", lost=lost)
            if content:
                yield from [*self._close(), *self._begin("text", event), Move("piece", self.parts[-1], content)]
        yield from self._close()
        self.ended_by = event
        yield Move("end")


def fold(events: Iterable[EventJson]) -> Fold:
    """The fold of *events*, which come in order of their seqs."""
    folded = Fold()
    for event in events:
        folded.add(event)
    return folded
