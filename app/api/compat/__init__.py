"""Other people's clients: what they speak on the wire, in front of the same sessions.

    POST ─ parse in their words ─ starting.start ─► a session like any other
    events ─ fold ─ moves ─ a table from moves to chunks ─► their stream

Each adapter reads what `…/stream` reads and stores nothing. The same events always give the same chunks, so the index
of a chunk is a cursor that never goes stale: nothing in a chunk comes from a clock, from chance or from a column that
changes. The core knows nothing of these modules; `CLIENTS` names those that are served.

    trpc              the first gateway's procedures and its page's poll
    chat_completions  OpenAI's chat completions and models; `chat_chunks` is its table
    responses         OpenAI's responses; `response_events` is its table
    ai_sdk            Vercel's AI SDK; `ui_chunks` is its table
"""

from __future__ import annotations

from apiflask import APIFlask
from flask import request

from app.settings import Settings

from . import ai_sdk, chat_completions, error_shapes, response_objects, responses, trpc

#: Name in `CLIENTS` → its routes.
FAMILIES = {
    "trpc": trpc.blueprint,
    "chat-completions": chat_completions.blueprint,
    "responses": responses.blueprint,
    "ai-sdk": ai_sdk.blueprint,
}


def install(app: APIFlask, settings: Settings) -> None:
    """Serve the clients that `CLIENTS` names, with errors of the shape that each knows."""
    named = {name.strip().lower() for name in settings.clients.split(",")}
    app.url_map.converters["response"] = response_objects.ResponseId
    for name, blueprint in FAMILIES.items():
        if name in named:
            app.register_blueprint(blueprint)
    error_shapes.install(app)

    @app.before_request
    def let_long_histories_in() -> None:
        if request.blueprint in _WITH_HISTORIES:
            request.max_content_length = settings.max_history_body_bytes


#: Blueprints whose clients send all that was said before with each message.
_WITH_HISTORIES = frozenset({"chat_completions", "responses", "ai_sdk"})
