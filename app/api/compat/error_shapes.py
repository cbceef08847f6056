"""Errors in the shape that each family of clients knows: made of the problem that the route, or its guard, answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apiflask import APIFlask
from flask import Response, request

from ..polling.pages import encode
from . import ai_sdk, openai_input, trpc

_Shape = Callable[[dict[str, Any]], Any]
#: Beginning of a path → what becomes of a problem there.
_SHAPES: tuple[tuple[str, _Shape], ...] = (
    ("/api/trpc/", trpc.error_of_problem),
    ("/v1/", openai_input.error_of_problem),
    ("/api/ai/", ai_sdk.error_of_problem),
)


def install(app: APIFlask) -> None:
    """Give every error below these paths its family's shape, those as well of paths that do not exist."""

    @app.after_request
    def shape(response: Response) -> Response:
        if response.mimetype != "application/problem+json":
            return response
        for path, shaped in _SHAPES:
            if request.path.startswith(path):
                problem = response.get_json()
                response.set_data(encode(shaped(problem)))
                response.mimetype = "application/json"
        return response
