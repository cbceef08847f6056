"""What the framework can't know of the OpenAPI document: raw responses, and that errors are problems."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .schemas import EventsOut

#: Models of routes that answer with a raw `Response`.
RAW = (EventsOut,)
_REFERENCE = "#/components/schemas/{model}"
_UNAVAILABLE = "The database, or the issuer of tokens, can't be reached; nothing was written."


def reference(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI reference to *model*, which must be one of `RAW`."""
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def complete(spec: dict[str, Any] | str) -> dict[str, Any] | str:
    """The document with the schemas of `RAW`, and every error as `application/problem+json`."""
    assert isinstance(spec, dict)
    _, definitions = models_json_schema([(model, "serialization") for model in RAW], ref_template=_REFERENCE)
    spec.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
    for path, operations in spec["paths"].items():
        for operation in operations.values():
            if isinstance(operation, dict) and "responses" in operation:
                _complete_responses(path, operation["responses"], takes_body="requestBody" in operation)
    return spec


def _complete_responses(path: str, responses: dict[str, Any], *, takes_body: bool) -> None:
    problem = {"schema": {"$ref": "#/components/schemas/HTTPError"}}
    if path.startswith("/api/"):
        responses.setdefault("401", {"description": "No valid token came with the request."})
        responses.setdefault("403", {"description": "The token does not allow it."})
        responses.setdefault("503", {"description": _UNAVAILABLE})
    if takes_body:
        responses.setdefault("413", {"description": "The body is too large."})
        responses.setdefault("415", {"description": "The body is not JSON."})
    for status, response in responses.items():
        if status[0] in "45":
            response["content"] = {"application/problem+json": problem}
