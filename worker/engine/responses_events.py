"""Events of the responses API as a client expects them, made of what compatible servers send."""

from __future__ import annotations

import json
from typing import Any

from .token_counts import mend_usage

#: They say that the server is there.
KEEP_ALIVE = frozenset({"keepalive", "ping", "response.keepalive", "response.ping", "response.heartbeat"})
ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
_OUTPUT = frozenset({"response.output_text.delta", "response.refusal.delta"})


class ResponsesEvents:
    """The events of one answer; a whole answer is its last one."""

    def __init__(self) -> None:
        # Something of the output came in events of its own.
        self._began = False
        # The ids of function calls that have none, by their place.
        self._ids: dict[Any, str] = {}

    def mend(self, body: dict[str, Any]) -> list[dict[str, Any]] | None:
        """The events that *body* should have been; None: it is right."""
        kind = body["type"]
        if kind in ("error", "response.failed") and (error := _error(body)):
            # Codes that are numbers, and errors that are texts: the client reads them only here.
            return [{"error": error}]
        if kind in KEEP_ALIVE:
            return []
        response = body.get("response")
        if isinstance(response, dict) and mend_usage(response):
            return self.mend(body) or [body]
        if kind in ("response.completed", "response.incomplete"):
            return self._end(body)
        if kind == "response.output_text.delta" and not isinstance(body.get("delta"), str):
            return [{**body, "delta": _text(body.get("delta"))}]
        self._began = self._began or kind in _OUTPUT or _is_call(body.get("item"))
        return self._mend_call(body)

    def _mend_call(self, body: dict[str, Any]) -> list[dict[str, Any]] | None:
        """*body* of a function call with the id of its item, and arguments that are text."""
        kind, place = body["type"], body.get("output_index")
        if kind.startswith("response.function_call_arguments."):
            right = dict(body)
            if not right.get("item_id") and place in self._ids:
                right["item_id"] = self._ids[place]
            for field in ("delta", "arguments"):
                if field in right:
                    right[field] = _arguments(right[field])
            return None if right == body else [right]
        item = body.get("item")
        if not kind.startswith("response.output_item.") or not isinstance(item, dict) or not _is_call(item):
            return None
        right = self._call(item, place)
        return None if right == item else [{**body, "item": right}]

    def _call(self, item: dict[str, Any], place: Any) -> dict[str, Any]:
        made_up = self._ids.get(place) or f"call-{len(self._ids)}"
        right = {**item, "arguments": _arguments(item.get("arguments"))}
        right["id"] = item.get("id") or made_up
        right["call_id"] = item.get("call_id") or item.get("id") or made_up
        self._ids[place] = right["id"]
        return right

    def _end(self, body: dict[str, Any]) -> list[dict[str, Any]] | None:
        """The end of an answer; with its output, when no event has told that."""
        response = body.get("response")
        output = response.get("output") if isinstance(response, dict) else None
        if self._began or not isinstance(output, list):
            return None
        self._began = True
        events = [event for n, item in enumerate(output) if isinstance(item, dict) for event in self._of_item(n, item)]
        return [*events, body] if events else None

    def _of_item(self, place: int, item: dict[str, Any]) -> list[dict[str, Any]]:
        where: dict[str, Any] = {"output_index": place, "sequence_number": 0}
        if _is_call(item):
            call = self._call(item, place)
            return [
                {"type": "response.output_item.added", "item": {**call, "arguments": ""}, **where},
                {"type": "response.output_item.done", "item": call, **where},
            ]
        where["item_id"] = item.get("id") or f"item-{place}"
        events = []
        for n, part in enumerate([*(item.get("summary") or []), *(item.get("content") or [])]):
            text = part.get("text") or part.get("refusal") if isinstance(part, dict) else part
            if not isinstance(text, str) or not text:
                continue
            kind = _KINDS.get(str(part.get("type")) if isinstance(part, dict) else "", "response.output_text.delta")
            events.append({"type": kind, "content_index": n, "summary_index": n, "delta": text, **where})
        return events


_KINDS = {
    "refusal": "response.refusal.delta",
    "summary_text": "response.reasoning_summary_text.delta",
    "reasoning_text": "response.reasoning_summary_text.delta",
}


def _error(body: dict[str, Any]) -> Any:
    response = body.get("response")
    if isinstance(response, dict):
        return response.get("error")
    return body.get("error") or body


def _is_call(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == "function_call"


def _arguments(arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments)


def _text(delta: Any) -> str:
    if isinstance(delta, dict):
        delta = delta.get("text")
    return delta if isinstance(delta, str) else ""
