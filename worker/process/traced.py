"""The span of an attempt: made where it begins, ended with how it ended, or left to whoever took the session over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from app.agents import Agents
from app.errors import DatabaseUnavailable, UnknownAgent
from app.events import Error
from app.observability import tracing
from app.observability.tracing import Attempt
from app.sessions import inspection
from app.sessions import queries as session_queries

from .run import Run


@asynccontextmanager
async def traced(run: Run, agents: Agents, in_thread: Callable[..., Awaitable[Any]]) -> AsyncIterator[None]:
    """Trace what happens in this block, where traces are on."""
    if not tracing.is_on():
        yield
        return
    claim = run.claim
    which = Attempt(claim.session_id, claim.attempt, claim.traceparent)
    try:
        agent = agents.get(claim.agent_id).name
    except UnknownAgent:
        agent = str(claim.agent_id)
    name = f"invoke_agent {agent}"
    attributes: dict[str, object] = {
        "gen_ai__operation__name": "invoke_agent",
        "gen_ai__agent__id": str(claim.agent_id),
        "gen_ai__agent__name": agent,
        "gen_ai__conversation__id": claim.conversation_id,
        "backchat__session__id": claim.session_id,
    }
    if claim.taken_from is not None and claim.attempt > 1:
        try:
            began, ended = await in_thread(inspection.span_of, claim.session_id, claim.attempt - 1)
            of_it = attributes | {"backchat__attempt": claim.attempt - 1, "backchat__worker": claim.taken_from}
            tracing.lost(which.before(), name, began, ended, of_it)
        except DatabaseUnavailable:
            pass  # the trace lacks a span, the session goes on
    with tracing.attempt(which, name, attributes | {"backchat__attempt": claim.attempt}) as step:
        step.enter(run.context)
        step.content(gen_ai__input__messages=[{"role": "user", "content": claim.message}])
        try:
            yield
        finally:
            if run.fenced and await in_thread(_was_taken_over, claim.session_id, claim.attempt):
                step.forget()
            terminal = run.terminal
            if isinstance(terminal, Error):
                step.failed(terminal.error_code)
            elif terminal is not None:
                step.content(gen_ai__output__messages=[{"role": "assistant", "content": terminal.content}])


def _was_taken_over(session_id: str, attempt: int) -> bool:
    try:
        head = session_queries.heads([session_id]).get(session_id)
    except DatabaseUnavailable:
        return True
    return head is not None and (head.attempt != attempt or head.status == "running")
