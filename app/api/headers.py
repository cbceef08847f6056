"""What every answer tells browsers and caches: keep nothing of it, take it for nothing else, run nothing in it."""

from __future__ import annotations

import base64
import hashlib
import re

from apiflask import APIFlask
from flask import Response, request

#: Of what is no page: nothing is loaded, nothing runs, nobody frames it.
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


#: Of every answer.
_ALL = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
#: Of every answer of the API.
OF_THE_API = _ALL | {"Content-Security-Policy": _NOTHING, "Cache-Control": "no-store"}


def install(app: APIFlask) -> None:
    @app.after_request
    def protect(response: Response) -> Response:
        headers = response.headers
        for name, value in _ALL.items():
            headers.setdefault(name, value)
        # The page and its files say by themselves what they may do, and are the same for everybody.
        if request.blueprint == "web":
            return response
        if "Content-Security-Policy" not in headers:
            # A 304 has no type of its own, which the framework takes for that of a page.
            is_page = response.mimetype == "text/html" and response.status_code != 304 and not response.is_streamed
            headers["Content-Security-Policy"] = _of_documentation(response) if is_page else _NOTHING
        if request.blueprint != "docs_assets":
            headers["Cache-Control"] = "no-store"
        return response


def _of_documentation(response: Response) -> str:
    """Its page runs what this server gives and its own inline scripts, which their hashes name."""
    scripts = _INLINE.findall(response.get_data(as_text=True))
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(["'self'", *(f"'sha256-{each}'" for each in hashes)])
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
