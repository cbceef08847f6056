"""What an orchestrator is given: the turn of a claim, with what was said before and what its caller asked for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from app.agents import Agents
from app.conversations import exchanges, messages
from app.db.times import iso
from app.errors import UnknownModel
from app.sessions import options as session_options
from app.sessions.claims import Claim
from app.sessions.options import Options
from app.settings import Settings
from worker.orchestrator import CancelScope, Message, Turn

from . import model_context

T = TypeVar("T")


class Read(Protocol):
    """Reads from the database on a thread, waiting while it is away."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


async def prepare(
    claim: Claim, *, agents: Agents, settings: Settings, cancel: CancelScope, read: Read, in_thread: Callable[..., Any]
) -> Turn:
    """The turn that *claim* is to answer.

    Raises:
        UnknownAgent, UnknownModel: a server that had other settings accepted it.
    """
    agent = agents.get(claim.agent_id)
    model = claim.model or agent.model or settings.chat_model
    if not agents.offers(model, settings):
        raise UnknownModel.of(model)
    options = await read(lambda: session_options.of(claim.session_id)) if claim.has_options else Options()
    history: tuple[Message, ...] = ()
    omitted = 0
    tokens = model_context.budget_tokens(agent, claim.message, options.instructions)
    if options.messages is not None:
        said = [Message(each.role, each.content) for each in options.messages]
        kept, omitted = await in_thread(model_context.fit_messages, said, tokens)
        history = tuple(kept)
    elif claim.has_history:
        history, omitted = await read(lambda: _exchanges(claim, tokens))

    async def search(query: str, limit: int) -> list[Message]:
        found = await read(lambda: messages.containing(claim.owner, claim.conversation_id, query, limit))
        return [Message(each.role, each.content, iso(each.created_at) or "") for each in found]

    return Turn(
        session_id=claim.session_id,
        conversation_id=claim.conversation_id or "",
        message=claim.message,
        agent=agent,
        model=model,
        settings=settings.without_secrets(),
        history=history,
        omitted=omitted,
        instructions=options.instructions,
        parameters=options.parameters,
        metadata=options.metadata,
        attempt=claim.attempt,
        checkpoint=None if claim.checkpoint is None else json.loads(claim.checkpoint),
        cancel=cancel,
        search=search,
    )


def _exchanges(claim: Claim, tokens: int) -> tuple[tuple[Message, ...], int]:
    """The newest exchanges of the conversation that fit into *tokens*, and how many earlier ones do not."""
    newest_first = exchanges.newest_first(claim.owner, claim.conversation_id, claim.row_id)
    kept, whole = model_context.fit(newest_first, tokens)
    if whole:
        return tuple(kept), 0
    return tuple(kept), exchanges.count(claim.owner, claim.conversation_id, claim.row_id) - len(kept) // 2
