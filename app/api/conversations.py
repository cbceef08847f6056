"""Routes of conversations and their messages."""

from __future__ import annotations

from typing import Any

from apiflask import APIBlueprint

from app.conversations import messages, threads
from app.conversations import queries as conversation_queries
from app.conversations import search as message_search
from app.sessions import removal

from .access import caller, needs, owner
from .conversation_schemas import (
    CONVERSATION,
    CONVERSATIONS,
    MATCHES,
    MESSAGES,
    SESSION_MESSAGES,
    ConversationOut,
    ConversationsOut,
    ConversationsQuery,
    MessagesOut,
    MessagesQuery,
    SearchOut,
    SearchQuery,
    SessionMessagesOut,
    TitleIn,
)
from .schemas import page_json
from .services import services

blueprint = APIBlueprint("conversations", __name__, url_prefix="/api", tag="Conversations")


@blueprint.get("/conversations")
@needs("read", within=("conversation", "agent"))
@blueprint.input(ConversationsQuery, location="query", arg_name="query")
@blueprint.output(ConversationsOut, example=CONVERSATIONS)
def recent(query: ConversationsQuery) -> dict[str, Any]:
    """Recent conversations, newest message first

    A conversation begins with the first `POST /api/chat/session` that names it, or that names none.
    """
    return page_json("conversations", conversation_queries.list_recent(owner(), within=caller(), **query.model_dump()))


@blueprint.get("/conversations/search")
@needs("read")
@blueprint.input(SearchQuery, location="query", arg_name="query")
@blueprint.output(SearchOut, example=MATCHES)
def search(query: SearchQuery) -> dict[str, Any]:
    """Search messages and titles

    Conversations with a message or title that has all words of `q`, newest match first. Case and accents don't
    matter; the last word also finds what begins with it.
    """
    return page_json("results", message_search.search(owner(), query.q, limit=query.limit, cursor=query.cursor))


@blueprint.get("/conversations/<conversation_id>")
@needs("read")
@blueprint.output(ConversationOut, example=CONVERSATION)
@blueprint.doc(summary="One conversation")
def show(conversation_id: str) -> dict[str, Any]:
    return conversation_queries.get(owner(), conversation_id.lower())


@blueprint.patch("/conversations/<conversation_id>")
@needs("write")
@blueprint.input(TitleIn, location="json", arg_name="body", example={"title": "Taxes of 2026"})
@blueprint.output(ConversationOut, example=CONVERSATION | {"title": "Taxes of 2026"})
@blueprint.doc(summary="Change the title")
def rename(conversation_id: str, body: TitleIn) -> dict[str, Any]:
    me, conversation_id = owner(), conversation_id.lower()
    threads.rename(me, conversation_id, body.title)
    return conversation_queries.get(me, conversation_id)


@blueprint.delete("/conversations/<conversation_id>")
@needs("write")
@blueprint.output({}, 204)
def delete(conversation_id: str) -> str:
    """Delete a conversation with all that it has

    Its sessions, their events, messages and history. A running session is stopped.
    """
    for ended in removal.delete_conversation(owner(), conversation_id.lower()):
        services().reader.forget(ended.session_id)
        services().doorbell.deleted(ended)
    return ""


@blueprint.get("/conversations/<conversation_id>/messages")
@needs("read")
@blueprint.input(MessagesQuery, location="query", arg_name="query")
@blueprint.output(MessagesOut, example=MESSAGES)
def of_conversation(conversation_id: str, query: MessagesQuery) -> dict[str, Any]:
    """Messages of a conversation

    The user's message is there as soon as it was accepted, the answer as soon as its session has ended: whole, or
    with what there was and the reason in `metadata` when the turn failed or was cancelled.
    """
    return _page(messages.of_conversation(owner(), conversation_id.lower(), **query.model_dump()))


@blueprint.delete("/conversations/<conversation_id>/messages")
@needs("write")
@blueprint.output({}, 204)
def clear(conversation_id: str) -> str:
    """Clear the context

    Deletes the messages; the model no longer sees them. Sessions and the history of the agent stay. What is running
    or waits to be answered stays as well and begins the next context.
    """
    threads.clear(owner(), conversation_id.lower())
    return ""


@blueprint.get("/sessions/<session_id>/messages")
@needs("read")
@blueprint.input(MessagesQuery, location="query", arg_name="query")
@blueprint.output(SessionMessagesOut, example=SESSION_MESSAGES)
@blueprint.doc(summary="Messages of a session")
def of_session(session_id: str, query: MessagesQuery) -> dict[str, Any]:
    page = messages.of_session(owner(), session_id, **query.model_dump())
    return _page(page) | {"sessionId": session_id, "sessionRequestId": page.request_id}


def _page(page: messages.MessagePage) -> dict[str, Any]:
    return {"conversationId": page.conversation_id} | page_json("messages", page) | {"total": page.total}
