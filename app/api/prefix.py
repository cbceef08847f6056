"""The application under a path of its proxy's (`URL_PREFIX`).

Only the setting says which: a client could send whatever a header says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from apiflask import APIFlask

from app.errors import Invalid

#: Settings of the rendered documentation that are paths.
_ASSETS = ("SWAGGER_UI_CSS", "SWAGGER_UI_BUNDLE_JS", "SWAGGER_UI_STANDALONE_PRESET_JS", "DOCS_FAVICON")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+", re.ASCII)


def install(app: APIFlask, url_prefix: str) -> None:
    """Serve *app* below *url_prefix* as well as at the root; empty: only there. Call it when all routes are known.

    Raises:
        Invalid: it is no path, or one that the application has itself.
    """
    prefix = url_prefix.rstrip("/")
    if not prefix:
        return
    if not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
        raise Invalid("URL_PREFIX must be a path such as /chat")
    if any(f"{rule.rule}/".startswith(f"{prefix}/") for rule in app.url_map.iter_rules()):
        # Whether the proxy has taken it off could not be told.
        raise Invalid(f"URL_PREFIX can't be {prefix}: the application has that path itself")
    app.config["SERVERS"] = [{"url": prefix}]
    for name in _ASSETS:
        app.config[name] = prefix + app.config[name]
    app.wsgi_app = _below(prefix, app.wsgi_app)  # type: ignore[method-assign]


def _below(prefix: str, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """*application*, which learns from SCRIPT_NAME where it is; the proxy may take the prefix off or leave it on."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == prefix:
            # The page's own addresses are relative: without the slash they would lead beside the prefix.
            query = f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
            start_response("308 Permanent Redirect", [("Location", f"{prefix}/{query}"), ("Content-Length", "0")])
            return []
        environ["SCRIPT_NAME"] = prefix
        if path.startswith(f"{prefix}/"):
            environ["PATH_INFO"] = path[len(prefix) :]
        return application(environ, start_response)

    return serve
