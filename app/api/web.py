"""The chat page at `/` and its files under `/web/`."""

from __future__ import annotations

from pathlib import Path

from apiflask import APIBlueprint
from flask import Response, send_from_directory

from .access import public

blueprint = APIBlueprint("web", __name__, enable_openapi=False)

_FILES = Path(__file__).resolve().parent.parent / "web"

#: What the page may do: run and load what this server gives, nothing else. No inline script or style, no image of
#: another host, which would learn who reads; text becomes markup only through the sanitiser's Trusted Types policy.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types dompurify",
    )
)

# What the operating system says of .js differs, and a module of another type is not run.
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}


@blueprint.get("/")
@public
def page() -> Response:
    response = _file("index.html")
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@blueprint.get("/web/<path:name>")
@public
def asset(name: str) -> Response:
    response = _file(name)
    # Pages of other origins import the client from here; there is nothing secret in it.
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response


def _file(name: str) -> Response:
    # Without max_age the browser asks each time and is told 304: a new version is never mixed with an old one.
    response = send_from_directory(_FILES, name, mimetype=_TYPES.get(Path(name).suffix, "text/plain"))
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
