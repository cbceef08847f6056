"""Is it alive, can it serve, what has it done."""

from __future__ import annotations

from typing import Any

from apiflask import APIBlueprint
from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.db import schema
from app.observability import exposition
from app.sessions import census

from ..errors import BackchatError
from .access import public, require_operator
from .problems import problem
from .schemas import HealthOut, ReadyOut
from .services import services

blueprint = APIBlueprint("health", __name__, tag="Health")


@blueprint.get("/healthz")
@public
@blueprint.output(HealthOut)
@blueprint.doc(summary="The process is alive")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@blueprint.get("/readyz")
@public
@blueprint.output(ReadyOut)
@blueprint.doc(summary="It can serve: database, schema, broker", responses={503: "Something it needs is missing."})
def readyz() -> Response | dict[str, Any]:
    """Without the broker sessions are still accepted and polled; they start when it is back. That is `degraded`."""
    try:
        schema.require_current()
    except BackchatError as error:
        return problem(503, error.code, error.detail)
    try:
        services().queue.ping()
    except BackchatError:
        return {"status": "degraded", "database": "ok", "broker": "unreachable"}
    return {"status": "ok", "database": "ok", "broker": "ok"}


@blueprint.get("/metrics")
@public
@blueprint.doc(hide=True)
def metrics() -> Response:
    """Prometheus; of all processes that share PROMETHEUS_MULTIPROC_DIR where that is set, else of this one."""
    require_operator(recorded=False)
    settings = services().settings
    text = exposition.render(settings.prometheus_multiproc_dir, census.Gauges(settings.sweep_s))
    return Response(text, mimetype=CONTENT_TYPE_LATEST)
