"""The HTTP edge: parse, call, serialise. One module per noun; every route is registered here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flask_swagger_ui
from apiflask import APIBlueprint, APIFlask
from flask import Response, request, send_from_directory
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from app import db
from app.broker import heads
from app.broker.client import open_redis
from app.broker.queue import TurnQueue
from app.db import schema
from app.sessions.doorbell import Doorbell

from ..agents import Agents
from ..errors import Invalid
from ..settings import Settings
from . import (
    access,
    account,
    agents,
    compat,
    compression,
    conversations,
    cross_origin,
    headers,
    health,
    observed,
    openapi,
    prefix,
    problems,
    sessions,
    web,
)
from .limits import Rate
from .polling.front import Front
from .polling.hub import Hub
from .polling.notifications import Notifications
from .polling.reader import Reader
from .schemas import ProblemOut
from .services import Services
from .services import install as install_services

#: The document and its page, which are the same for everybody.
_OF_THE_FRAMEWORK = {"openapi.spec", "openapi.docs", "openapi.swagger_ui_oauth_redirect"}
_SWAGGER_UI = Path(flask_swagger_ui.__file__).parent / "dist"


def create_app(settings: Settings) -> APIFlask:
    """The web application. Opens the database, and refuses to on an old schema.

    Raises:
        SchemaOutdated: the database must be migrated first; the message names the command.
        DatabaseUnavailable: it can't be reached.
        Invalid: a setting can't be used, or would serve everybody.
    """
    access.require_guard(settings)
    db.open_database(settings.database_url)
    schema.require_current()
    no_folder: Any = None  # the page has a route of its own
    app = APIFlask(__name__, title="Backchat", version="0.1.0", docs_path="/docs", static_folder=no_folder)
    # Flask would answer a doubled slash with a redirect in HTML, which clients don't follow with their body.
    app.url_map.merge_slashes = False
    _configure(app, settings)
    here = _services(settings)
    install_services(app.extensions, here)
    problems.install(app)
    app.spec_processor(openapi.complete)
    compression.install(app)
    headers.install(app)
    # In this order: a preflight has no token, and a body is read for whom it may come from.
    by_origin = cross_origin.install(app, settings.cors_origins)
    principal_of = access.install(app, settings)
    _require_json(app)
    for blueprint in (
        sessions.blueprint,
        conversations.blueprint,
        agents.blueprint,
        account.blueprint,
        health.blueprint,
        web.blueprint,
        _docs_assets(),
    ):
        app.register_blueprint(blueprint)
    compat.install(app, settings)
    observed.install(app, access_log=settings.logs_requests)
    front = Front(app.wsgi_app, here.reader, principal_of, list(headers.OF_THE_API.items()), by_origin=by_origin)
    # What it answers has no line in the log.
    if not settings.logs_requests:
        app.wsgi_app = front  # type: ignore[method-assign]
    prefix.install(app, settings.url_prefix)
    for endpoint in _OF_THE_FRAMEWORK & app.view_functions.keys():
        app.view_functions[endpoint] = access.public(app.view_functions[endpoint])
    access.require_every_route_declared(app)
    return app


def _services(settings: Settings) -> Services:
    queue = TurnQueue(settings.redis_url)
    published = heads.Heads(open_redis(settings.redis_url))
    # Its own connection: a subscription waits longer than any other call may.
    notifications = Notifications(open_redis(settings.redis_url, timeout_s=30))
    return Services(
        settings=settings,
        agents=Agents.load(settings.agents_file),
        heads=published,
        queue=queue,
        doorbell=Doorbell(published, queue),
        hub=Hub(notifications, held_per_owner=settings.max_held_per_owner),
        reader=Reader(published, notifications),
        posts=Rate(settings.posts_per_minute),
    )


def _configure(app: APIFlask, settings: Settings) -> None:
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_body_bytes,
        VALIDATION_ERROR_STATUS_CODE=400,
        VALIDATION_ERROR_SCHEMA=ProblemOut.model_json_schema(),
        HTTP_ERROR_SCHEMA=ProblemOut.model_json_schema(),
        # The page loads nothing from another host.
        SWAGGER_UI_CSS="/docs/assets/swagger-ui.css",
        SWAGGER_UI_BUNDLE_JS="/docs/assets/swagger-ui-bundle.js",
        SWAGGER_UI_STANDALONE_PRESET_JS="/docs/assets/swagger-ui-standalone-preset.js",
        DOCS_FAVICON="/docs/assets/favicon-32x32.png",
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]


def _require_json(app: APIFlask) -> None:
    @app.before_request
    def only_json() -> Response | None:
        # A page of another site can post text/plain without asking; JSON makes its browser ask first.
        has_body = request.content_length or "Transfer-Encoding" in request.headers
        if has_body and not request.is_json:
            return problems.problem(415, "unsupported_media_type", "send application/json")
        # Flask cuts a body of unknown length silently at the limit, and the rest may still parse as JSON.
        if request.content_length is None and len(_read_body()) >= (request.max_content_length or 0):
            return problems.problem(413, "body_too_large", RequestEntityTooLarge.description)
        return None


def _read_body() -> bytes:
    try:
        return request.get_data()
    except HTTPException:
        raise
    except Exception as error:
        # Every server raises its own error for malformed chunks.
        raise Invalid("the body can't be read: its chunks are broken") from error


def _docs_assets() -> APIBlueprint:
    blueprint = APIBlueprint("docs_assets", __name__, url_prefix="/docs/assets", enable_openapi=False)

    @blueprint.get("/<path:name>")
    @access.public
    def asset(name: str) -> Response:
        return send_from_directory(_SWAGGER_UI, name, max_age=86_400)

    return blueprint
