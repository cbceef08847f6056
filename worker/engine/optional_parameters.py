"""What of a request a server refuses that the request can do without: left out, and remembered."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)

#: Statuses with which servers answer a parameter that they don't know; some merely fall over it.
REFUSING = frozenset({400, 404, 405, 415, 422, 500, 501})
#: Without these there is no request.
_NEEDED = frozenset({"model", "messages", "input", "instructions", "tools", "stream"})
#: What only callers ask for: without it the answer would be another one than they wanted.
_ASKED_FOR = frozenset(
    {
        *("temperature", "top_p", "max_tokens", "max_completion_tokens", "max_output_tokens", "stop", "seed"),
        *("presence_penalty", "frequency_penalty", "reasoning_effort"),
    }
)
#: What clients add to messages and tools, and some servers refuse.
_OF_MESSAGES = frozenset({"reasoning", "reasoning_content", "extra_content"})
_OF_TOOLS = frozenset({"strict"})
#: How servers that don't name what they refuse say that they refuse something.
_SOMETHING = re.compile(
    rb"(?i)(?:unrecogni[sz]ed|unknown|unexpected|unsupported|extra|additional|unpermitted)[ _]"
    rb"(?:request[ _])?(?:argument|parameter|field|input|propert|key|keyword)"
    rb"|(?:extra|additional) (?:inputs|fields|properties)|extra_forbidden"
)
#: Names come with requests: what is remembered has an end.
_MAX_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a server refuses of the requests for one model."""

    #: Address and model.
    key: tuple[str, str]
    names: frozenset[str]
    #: The request without them.
    body: bytes


class OptionalParameters:
    """What each model of each server refuses, of all sessions together."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, str], frozenset[str]] = {}

    def without_refused(self, url: str, body: bytes) -> bytes:
        """The request *body* without what its server is known to refuse."""
        if not self._refused:
            return body
        request = json.loads(body)
        refused = self._refused.get((url, str(request.get("model"))))
        return _dump(_without(request, refused)) if refused else body

    def named(self, url: str, body: bytes, said: bytes) -> Refusal | None:
        """What of *body* the server refuses that *said* so; None: nothing that can be left out."""
        try:
            request = json.loads(body)
        except ValueError:
            return None
        key = (url, str(request.get("model")))
        known = self._refused.get(key, frozenset())
        present = _names_in(_without(request, known))
        words = set(re.findall(rb"\w+", said))
        names = {name for name in present if name.encode() in words}
        if not names and _SOMETHING.search(said):
            names = present
        refused = known | names
        return Refusal(key, refused, _dump(_without(request, refused))) if names else None

    def remember(self, refusal: Refusal) -> None:
        """The server took the request without it."""
        if len(self._refused) >= _MAX_REMEMBERED:
            self._refused.clear()
        self._refused[refusal.key] = refusal.names
        fields = {"url": refusal.key[0], "model": refusal.key[1], "names": sorted(refusal.names)}
        logger.warning("parameters that the server refuses are left out", extra=fields)


def _names_in(request: dict[str, Any]) -> set[str]:
    names = set(request) - _NEEDED - _ASKED_FOR
    if (request.get("reasoning") or {}).get("effort"):
        names.discard("reasoning")
    _visit(request, lambda holder, allowed: names.update(holder.keys() & allowed))
    return names


def _without(request: dict[str, Any], refused: frozenset[str]) -> dict[str, Any]:
    less = {name: value for name, value in request.items() if name not in refused}

    def leave_out(holder: dict[str, Any], allowed: frozenset[str]) -> None:
        for name in holder.keys() & allowed & refused:
            del holder[name]

    _visit(less, leave_out)
    return less


def _visit(request: dict[str, Any], use: Callable[[dict[str, Any], frozenset[str]], None]) -> None:
    """Call *use* with each object within the request that holds something optional, and its names."""
    for message in [*(request.get("messages") or []), *(request.get("input") or [])]:
        if isinstance(message, dict):
            use(message, _OF_MESSAGES)
            for call in message.get("tool_calls") or []:
                use(call, _OF_MESSAGES)
    for tool in request.get("tools") or []:
        use(tool, _OF_TOOLS)
        if isinstance(tool.get("function"), dict):
            use(tool["function"], _OF_TOOLS)


def _dump(request: dict[str, Any]) -> bytes:
    return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
