"""The one protocol of this project: what answers a turn.

An orchestrator is a callable that takes a `Turn` and yields events and checkpoints, as an async
generator or as a plain sync one (which then runs on a thread of its own):

    async def answer(turn: Turn) -> AsyncIterator[Yielded]:
        yield Delta("Hello ")
        yield "world"                      # a plain string is a delta

It knows no database, queue or HTTP. What it yields:

- `Thinking`, `Delta` and `ToolCall` are streamed to the client. Small deltas are merged by the caller.
- `Checkpoint` stores all that came before it as permanent, and the state to go on from. After a crash the
  next attempt gets that state as `turn.checkpoint`; text yielded after the last checkpoint is superseded.
- `Withdrawal` takes back the text and thoughts yielded after the last checkpoint: they no longer count.
- `Asked` says that a model is about to be asked, and `Usage` what that request took. They are counted as they come, and
  stay counted whatever becomes of the turn: a request that is cut off before its `Usage` counts as an estimate.
- `Done` names model and usage and ends the turn. Ending without one is a `Done` of the deltas joined.

It fails by raising: `TurnFailed` with a stable code, or anything else, which becomes `orchestrator_error`.
It is stopped by cancellation: an async generator gets `asyncio.CancelledError` where it awaits and must let it
through; a sync one gets `GeneratorExit` at its next yield and may look at `turn.cancel.requested` before.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.agents import Agent
from app.events import Delta, Done, Thinking, ToolCall, Usage
from app.parameters import Parameters
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation, or of the history that the caller sent along."""

    #: `user` or `assistant`; `system` only of what the caller sent.
    role: str
    content: str
    #: ISO 8601 UTC.
    created_at: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state to go on from; everything yielded before it is permanent.

    Yield one after each model answer and each tool result.
    """

    #: Any JSON value; opaque to everybody else.
    state: Any


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What was yielded since the last `Checkpoint` no longer counts, as if it had not been."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A model is about to be asked. Comes back when it may be: a turn that has no budget left ends here."""

    #: An estimate: what counts if the request is cut off.
    input_tokens: int = 0
    #: None: the turn's.
    model: str | None = None


def is_stopped() -> bool:
    """Whether somebody cancelled the current task: a CancelledError that code raises by itself is no stop."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class CancelScope:
    """Lets code on threads, which can't be cancelled at an `await`, see that the turn was stopped."""

    def __init__(self) -> None:
        self._event = threading.Event()

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    def request(self) -> None:
        self._event.set()

    def wait(self, timeout_s: float) -> bool:
        """Sleep on a thread, at most *timeout_s*; True as soon as the turn is stopped."""
        return self._event.wait(timeout_s)


async def _search_nothing(query: str, limit: int) -> list[Message]:
    return []


@dataclass(frozen=True, slots=True)
class Turn:
    """What an orchestrator gets: the message to answer, and all it needs for that."""

    session_id: str
    conversation_id: str
    message: str
    agent: Agent
    #: Model name: the request's, else the agent's, else the deployment's.
    model: str
    #: Without keys, secrets and addresses of servers.
    settings: Settings
    #: What was said before, oldest first: the newest that fit the agent's window. Complete exchanges of the
    #: conversation, or the messages that the caller sent in their place.
    history: tuple[Message, ...] = ()
    #: How many earlier exchanges did not fit; the model should know that they are missing.
    omitted: int = 0
    #: The caller's, in addition to the agent's.
    instructions: str = ""
    #: What the caller says of the model. Fail with `unsupported_parameter` rather than leave one out.
    parameters: Parameters = field(default_factory=Parameters)
    #: The caller's own notes.
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: 1 for the first try.
    attempt: int = 1
    #: State of the last `Checkpoint` of an earlier attempt, else None.
    checkpoint: Any = None
    cancel: CancelScope = field(default_factory=CancelScope)
    #: (query, limit) → earlier messages of this conversation that match, newest first.
    search: Callable[[str, int], Awaitable[list[Message]]] = _search_nothing


class TurnFailed(Exception):
    """The turn can't be answered.

    Attributes:
        code: Stable `errorCode` for clients: `model_auth`, `model_rate_limited`, `model_unavailable`, `model_timeout`,
            `model_error`, `too_many_model_requests`, `empty_answer`, …
        detail: One sentence for the user; no secrets.
        provider_said: What a provider said of it, for whoever runs the deployment: kept with the session, never shown
            to its owner. No keys.
    """

    def __init__(self, code: str, detail: str, *, provider_said: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.provider_said = provider_said


Yielded = Thinking | Delta | ToolCall | Done | Checkpoint | Withdrawal | Asked | Usage | str


class Orchestrator(Protocol):
    """See the module's docstring."""

    def __call__(self, turn: Turn, /) -> AsyncIterator[Yielded] | Iterator[Yielded]: ...
