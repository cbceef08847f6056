"""Start a session for whoever calls, whichever route they came by: what they may, what there is, commit, ring."""

from __future__ import annotations

import contextlib

from flask import request

from app import sessions
from app.conversations import queries as conversation_queries
from app.errors import Forbidden, Invalid, NotFound, UnknownAgent, UnknownModel
from app.sessions.options import Options

from . import observed
from .access import caller, owner
from .schemas import SessionIn
from .services import services

_KEY_CHARACTERS = 255


def start_of(
    body: SessionIn, *, idempotency_key: str | None = None, request_hash: str | None = None
) -> sessions.Created:
    """`start` with what *body* says."""
    return start(
        body.message,
        agent_id=body.agent_id,
        model=body.model,
        conversation_id=body.conversation_id,
        on_busy=body.on_busy,
        options=body.options(),
        ephemeral=bool(body.ephemeral),
        idempotency_key=idempotency_key,
        request_hash=request_hash,
    )


def start(
    message: str,
    *,
    agent_id: int = 1,
    model: str | None = None,
    conversation_id: str | None = None,
    on_busy: sessions.OnBusy = "enqueue",
    options: Options | None = None,
    ephemeral: bool = False,
    idempotency_key: str | None = None,
    request_hash: str | None = None,
) -> sessions.Created:
    """Commit a session and its message, then wake a worker.

    Args:
        ephemeral: A conversation that begins is deleted a day after it was used last.
        model: In place of the agent's; None: the agent's, else the deployment's.

    Raises:
        UnknownAgent, UnknownModel: there is none, or the caller's scope leaves it out.
        Forbidden, NotFound: the conversation is not in the caller's scope.
        TooManyPosts: the owner has sent too many within a minute.
        BalanceExhausted, LimitReached, Busy, IdempotencyConflict, DatabaseUnavailable: as `sessions.create`.
    """
    here = services()
    agent_id, model = _agent_and_model(agent_id, model)
    _require_conversation_in_scope(conversation_id)
    limits = here.limits_of(owner())
    if limits.posts_per_minute:
        here.posts.take(owner())
    created = sessions.create(
        sessions.NewSession(
            owner=owner(),
            message=message,
            agent_id=agent_id,
            model=model,
            conversation_id=conversation_id,
            on_busy=on_busy,
            idempotency_key=idempotency_key,
            request_hash=request_hash,
            options=options or Options(),
            ephemeral=ephemeral,
            limits=limits,
            request_id=observed.request_id(),
            traceparent=observed.traceparent(),
        )
    )
    for ended in created.interrupted:
        here.doorbell.interrupted(ended)
    if created.new:
        here.doorbell.ring(created.session_id)
    return created


def _agent_and_model(agent_id: int, model: str | None) -> tuple[int, str]:
    """The agent and the model of a new session; what the caller's scope leaves out is as what does not exist."""
    who, here = caller(), services()
    agent = here.agents.get(agent_id)
    if who.agents is not None and agent.id not in who.agents:
        raise UnknownAgent.of(agent.id)
    model = model or agent.model or here.settings.chat_model
    if not here.agents.offers(model, here.settings) or (who.models is not None and model not in who.models):
        raise UnknownModel.of(model)
    return agent.id, model


def _require_conversation_in_scope(conversation_id: str | None) -> None:
    who = caller()
    if who.conversations is not None and conversation_id is None:
        raise Forbidden("the token is limited to one conversation: name it")
    if who.conversations is not None and conversation_id not in who.conversations:
        raise NotFound("no such conversation")
    if who.agents is not None and conversation_id is not None:
        with contextlib.suppress(NotFound):  # then it begins here
            if conversation_queries.agent_of(owner(), conversation_id) not in who.agents:
                raise Forbidden("the conversation belongs to an agent that the token is not for")


def idempotency_key() -> str | None:
    """The request's `Idempotency-Key`. Raises Invalid."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= _KEY_CHARACTERS or not key.isascii() or not key.isprintable():
        raise Invalid(f"Idempotency-Key must be 1 to {_KEY_CHARACTERS} printable ASCII characters")
    return key
