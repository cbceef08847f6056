"""Chunks of a chat completion as a client expects them, made of what compatible servers send."""

from __future__ import annotations

import json
from typing import Any

from .provider_words import error_in
from .token_counts import mend_usage
from .tool_fragments import ToolFragments

#: Names under which servers tell thoughts that no client reads, in the order of preference.
_THOUGHTS = ("reasoning_text", "thinking", "thought", "thoughts")
_READ_THOUGHTS = ("reasoning", "reasoning_content")


class ChatChunks:
    """The chunks of one answer; a whole answer is one chunk."""

    def __init__(self) -> None:
        self._fragments = ToolFragments()
        # Usage of the answer so far, which some servers tell with each chunk: only the last one counts.
        self._usage: dict[str, Any] | None = None

    def mend(self, body: dict[str, Any], *, named_error: bool = False) -> bool:
        """Put *body* right; whether anything was. *named_error*: its stream calls it an error."""
        error = error_in(body, named=named_error)
        if error is not None:
            if set(body) == {"error"}:
                return False
            error = dict(body) if error is body else error
            body.clear()
            body["error"] = error
            return True
        # Clients check neither, and stumble over them when the answer is stored.
        changed = _mend_head(body)
        changed = mend_usage(body) or changed
        usage, choices = body.get("usage"), body.get("choices")
        if not isinstance(choices, list) or not choices:
            if usage:
                self._usage = None
            return changed
        if usage:
            # A client adds up what every chunk tells.
            self._usage, body["usage"], changed = {**body, "choices": []}, None, True
        if isinstance(choices[0], dict):
            changed = self._mend_choice(choices[0]) or changed
        return changed

    def last_usage(self) -> dict[str, Any] | None:
        """The chunk that tells the usage, unless one of its own has; told once."""
        usage, self._usage = self._usage, None
        return usage

    def _mend_choice(self, choice: dict[str, Any]) -> bool:
        changed = False
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            whole = choice.pop("message", None)
            if not isinstance(whole, dict):
                text = choice.pop("text", None)
                if not isinstance(text, str):
                    return False
                whole = {"content": text}
            delta = choice["delta"] = whole
            changed = True
        content = delta.get("content")
        if content is not None and not isinstance(content, str) and not _is_plain(content):
            thoughts, delta["content"] = _parts(content)
            if thoughts and not any(delta.get(name) for name in _READ_THOUGHTS):
                delta["reasoning_content"] = thoughts
            changed = True
        changed = _mend_thoughts(delta) or changed
        calls = delta.get("tool_calls")
        if isinstance(calls, dict):
            calls, changed = [calls], True
        if isinstance(calls, list) and calls:
            delta["tool_calls"], mended = self._fragments.mend(calls)
            changed = changed or mended
        return changed


def _mend_head(body: dict[str, Any]) -> bool:
    changed = False
    for name in ("id", "model"):
        value = body.get(name)
        if value is not None and not isinstance(value, str):
            body[name], changed = str(value), True
    created = body.get("created")
    if created is not None and type(created) is not int:
        body["created"], changed = int(created) if isinstance(created, float) else 0, True
    return changed


def _mend_thoughts(delta: dict[str, Any]) -> bool:
    changed = False
    for name in _READ_THOUGHTS:
        value = delta.get(name)
        if value is not None and not isinstance(value, str):
            thoughts, text = _parts(value)
            delta[name], changed = thoughts + text, True
    if any(delta.get(name) for name in _READ_THOUGHTS):
        return changed
    thoughts = next((delta[name] for name in _THOUGHTS if delta.get(name) and isinstance(delta[name], str)), "")
    details = delta.get("reasoning_details")
    if not thoughts and isinstance(details, list):
        thoughts = _parts([each for each in details if isinstance(each, dict)])[0]
    if thoughts:
        delta["reasoning_content"] = thoughts
    return changed or bool(thoughts)


def _is_plain(content: Any) -> bool:
    """A list of texts: clients read that."""
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content
    )


def _parts(content: Any) -> tuple[str, str]:
    """Thoughts and text of a *content* that is not the text it should be: typed parts, nested ones, a number."""
    if isinstance(content, str):
        return "", content
    if isinstance(content, list):
        both = [_parts(part) for part in content]
        return "".join(thoughts for thoughts, _ in both), "".join(text for _, text in both)
    if not isinstance(content, dict):
        return "", "" if content is None or isinstance(content, bool) else json.dumps(content)
    inner = next(
        (content[name] for name in ("text", "thinking", "content", "summary", "reasoning") if content.get(name)), ""
    )
    thoughts, text = _parts(inner) if isinstance(inner, str | list) else ("", "")
    kind = str(content.get("type") or "")
    return (thoughts + text, "") if "think" in kind or "reason" in kind else (thoughts, text)
