"""Which deltas of a streamed answer may be joined, and joining them."""

from __future__ import annotations

import json
from typing import Any

#: Text fields of a chat delta that may be joined with the same field of the next one.
_CHAT_TEXTS = frozenset({"content", "reasoning_content", "reasoning"})
#: Names under which vLLM says the same thoughts, both at once.
_SAID_TWICE = {"reasoning", "reasoning_content"}
#: A client of another provider tells thoughts from the answer only if these come alone, as single tokens.
_THINKING_TAGS = frozenset({"<think>", "</think>"})
#: Top-level fields of a chat chunk that may differ between two chunks that are joined.
_CHAT_KNOWN = frozenset({"id", "object", "created", "model", "choices", "usage", "obfuscation"})
_CHOICE_KNOWN = frozenset({"index", "delta", "finish_reason"})
_FRAGMENT_KNOWN = frozenset({"index", "id", "type", "function"})
#: Events of the responses API whose `delta` may be joined with that of the next one.
_RESPONSES_TEXTS = frozenset(
    {
        "response.output_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_text.delta",
        "response.refusal.delta",
        "response.function_call_arguments.delta",
    }
)
_RESPONSES_IGNORED = frozenset({"sequence_number", "obfuscation", "delta"})


def kind_of(body: dict[str, Any]) -> object:
    """What a delta may be joined by: neighbours of equal kinds join; None joins nothing."""
    return _responses_kind(body) if "type" in body else _chat_kind(body)


def join(into: dict[str, Any], body: dict[str, Any]) -> None:
    """Append the delta *body* to *into*, which is of the same kind."""
    if "type" in body:
        into["delta"] += body["delta"]
    else:
        _join_chat(into["choices"][0]["delta"], body["choices"][0]["delta"])


def text_of(body: dict[str, Any], kind: Any) -> tuple[dict[str, Any], str]:
    """Where the text of a delta stands: in which object and under which name; no name when it is no text."""
    if "type" in body:
        return body, "delta"
    return body["choices"][0]["delta"], kind[0] if kind[0] in _CHAT_TEXTS else ""


def _chat_kind(body: dict[str, Any]) -> object:
    """What a chat chunk may be joined by: equal kinds join; None joins nothing."""
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or body.get("usage"):
        return None
    choice = choices[0]
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(delta, dict) or choice.get("finish_reason"):
        return None
    if any(choice[key] for key in choice.keys() - _CHOICE_KNOWN):
        return None
    spoken = [key for key, value in delta.items() if value and key != "role"]
    field = spoken[0] if len(spoken) == 1 else ""
    if set(spoken) == _SAID_TWICE:
        field = "reasoning twice"
        if not all(isinstance(delta[key], str) for key in spoken):
            return None
    elif field in _CHAT_TEXTS:
        if not isinstance(delta[field], str) or delta[field] in _THINKING_TAGS:
            return None
    elif field != "tool_calls" or not _are_fragments(delta[field]):
        return None
    others = tuple((key, json.dumps(body[key])) for key in sorted(body.keys() - _CHAT_KNOWN) if body[key])
    return (field, choice.get("index"), body.get("id"), others)


def _are_fragments(calls: Any) -> bool:
    """Tool calls as they should be: `arguments` are text, and not there only while a call opens."""
    return isinstance(calls, list) and all(
        isinstance(call, dict)
        and isinstance(function := call.get("function"), dict)
        and isinstance(function.get("arguments"), str | None)
        for call in calls
    )


def _join_chat(into: dict[str, Any], delta: dict[str, Any]) -> None:
    """Append the one spoken field of *delta* to the same field of *into*."""
    calls = delta.get("tool_calls")
    if not calls:
        for field in _CHAT_TEXTS:
            if delta.get(field):
                into[field] += delta[field]
        return
    for fragment in calls:
        before = [call for call in into["tool_calls"] if call.get("index") == fragment.get("index")]
        if before and _goes_on(fragment):
            function = before[-1]["function"]
            function["arguments"] = (function.get("arguments") or "") + (fragment["function"].get("arguments") or "")
        else:
            into["tool_calls"].append(fragment)


def _goes_on(fragment: dict[str, Any]) -> bool:
    """The fragment holds nothing but more arguments of a call that was opened before."""
    function = fragment.get("function")
    if not isinstance(fragment.get("index"), int) or not isinstance(function, dict):
        return False
    if fragment.get("id") or any(fragment[key] for key in fragment.keys() - _FRAGMENT_KNOWN):
        return False
    return not any(value for key, value in function.items() if key != "arguments")


def _responses_kind(body: dict[str, Any]) -> object:
    """What an event of the responses API may be joined by, as for chat chunks."""
    if body["type"] not in _RESPONSES_TEXTS or not isinstance(body.get("delta"), str) or not body["delta"]:
        return None
    # `logprobs` are an empty list unless asked for; lists can't be compared by hash, so they are left out when empty.
    rest = tuple((key, body[key]) for key in sorted(body.keys() - _RESPONSES_IGNORED) if body[key] not in ([], None))
    return None if any(isinstance(value, (list, dict)) for _, value in rest) else rest
