"""Compresses larger JSON answers for clients that accept gzip; pages of events do it themselves."""

from __future__ import annotations

from apiflask import APIFlask
from flask import Response, request

from .polling.pages import COMPRESS_BYTES, compress, takes_gzip

_COMPRESSED = frozenset({"application/json", "application/problem+json"})


def install(app: APIFlask) -> None:
    @app.after_request
    def compress_json(response: Response) -> Response:
        if response.mimetype not in _COMPRESSED or response.is_streamed:
            return response
        if (response.content_length or 0) <= COMPRESS_BYTES or "Content-Encoding" in response.headers:
            return response
        response.vary.add("Accept-Encoding")
        if takes_gzip(request.headers.get("Accept-Encoding", "")):
            response.set_data(compress(response.get_data()))
            response.headers["Content-Encoding"] = "gzip"
        return response
