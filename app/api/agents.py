"""Routes of agents: what is configured, and the history of each."""

from __future__ import annotations

from typing import Any

from apiflask import APIBlueprint
from flask import request

from app.history import queries
from app.history.queries import Place, Wanted

from ..agents import Agent
from ..errors import Invalid, NotFound, UnknownAgent
from .access import caller, needs, owner
from .agent_schemas import (
    AGENT,
    EVENT,
    HISTORY,
    SUMMARY,
    AgentOut,
    AgentsOut,
    HistoryEventOut,
    HistoryOut,
    HistoryQuery,
    SummaryOut,
    moment_of,
    types_of,
)
from .schemas import page_json
from .services import services

blueprint = APIBlueprint("agents", __name__, url_prefix="/api/agents", tag="Agents")


@blueprint.get("")
@needs("read", within=("session", "conversation", "agent"))
@blueprint.output(AgentsOut, example={"agents": [AGENT]})
@blueprint.doc(summary="The configured agents")
def every() -> dict[str, Any]:
    allowed = caller().agents
    return {"agents": [_shown(agent) for agent in services().agents if allowed is None or agent.id in allowed]}


@blueprint.get("/<int:agent_id>")
@needs("read", within=("session", "conversation"))
@blueprint.output(AgentOut, example=AGENT)
@blueprint.doc(summary="One agent")
def show(agent_id: int) -> dict[str, Any]:
    return _shown(_agent(agent_id))


def _agent(agent_id: int) -> Agent:
    try:
        return services().agents.get(agent_id)
    except UnknownAgent:
        # In a path an unknown agent is not found; in a body it is an invalid value.
        raise NotFound("no such agent") from None


def _shown(agent: Agent) -> dict[str, Any]:
    # Field by field, so that a field added to agents later is not shown by accident.
    return {
        "id": agent.id,
        "name": agent.name,
        "description": agent.description,
        "model": agent.model or services().settings.chat_model,
        "tools": list(agent.tools),
        "mcpServers": [
            {"name": server.name, "transport": "http" if server.command is None else "stdio"}
            for server in agent.mcp_servers
        ],
        "contextTokens": agent.context_tokens,
    }


@blueprint.get("/<int:agent_id>/conversation")
@needs("read")
@blueprint.input(HistoryQuery, location="query", arg_name="query")
@blueprint.output(HistoryOut, example=HISTORY)
def history(agent_id: int, query: HistoryQuery) -> dict[str, Any]:
    """History of an agent

    What the agent did in the caller's conversations. To page, give `nextCursor` to the parameter that the page was
    asked with: `after` to go to newer rows, `before` to go to older ones.
    """
    wanted = Wanted(
        owner=owner(),
        agent_id=_agent(agent_id).id,
        types=types_of(request.args.getlist("event_type")),
        session=int(query.session) if query.session is not None and query.session.isdecimal() else query.session,
        conversation_id=query.conversation,
        since=query.since,
        until=query.until,
    )
    if query.offset is not None and (query.before is not None or query.after is not None):
        raise Invalid("send a cursor or offset, not both", parameter="offset")
    page = queries.page(
        wanted,
        limit=query.limit,
        offset=query.offset or 0,
        before=_place(query.before, "before"),
        after=_place(query.after, "after"),
        order=query.order,
    )
    inexact = {} if page.total_is_exact else {"totalIsExact": False}
    return page_json("events", page) | {"total": page.total} | inexact


def _place(value: str | None, parameter: str) -> Place | None:
    if value is None:
        return None
    try:
        moment = moment_of(value)
    except ValueError:
        return queries.place_of(value, parameter)
    return queries.before_time(moment) if parameter == "before" else queries.after_time(moment)


@blueprint.get("/<int:agent_id>/conversation/summary")
@needs("read")
@blueprint.output(SummaryOut, example=SUMMARY)
@blueprint.doc(summary="What the history of an agent has")
def summary(agent_id: int) -> dict[str, Any]:
    found = queries.summary(owner(), _agent(agent_id).id)
    return found | {"session_count": found["sessionCount"]}


@blueprint.get("/<int:agent_id>/conversation/<event_id>")
@needs("read")
@blueprint.output(HistoryEventOut, example=EVENT)
@blueprint.doc(summary="One row of the history")
def event(agent_id: int, event_id: str) -> dict[str, Any]:
    return queries.get(owner(), _agent(agent_id).id, event_id)


@blueprint.delete("/<int:agent_id>/conversation")
@needs("write")
@blueprint.output({}, 204)
def delete(agent_id: int) -> str:
    """Delete the history of an agent

    Deletes the caller's rows; messages and sessions stay. Numbers go on where they were.
    """
    queries.delete(owner(), _agent(agent_id).id)
    return ""
