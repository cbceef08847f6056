"""The fragments in which chat servers stream tool calls, put right: each with the index of its call, names once.

A client joins fragments by `index` and appends what they say. Servers number all calls alike, or none, or each
fragment; they repeat the name in every fragment, give no id, or send arguments that are no text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

#: Special tokens of gpt-oss that leak into names: `calculate<|channel|>commentary`.
_LEAK = "<|"


@dataclass(slots=True)
class _Call:
    #: The index that its server gave it.
    index: Any
    #: Where it really stands.
    place: int
    call_id: str | None
    name: str = ""
    arguments: str = ""

    @property
    def complete(self) -> bool:
        """Its arguments are a whole object: nothing can be added to them."""
        if not self.arguments.rstrip().endswith("}"):
            return False
        try:
            return isinstance(json.loads(self.arguments), dict)
        except ValueError:
            return False


class ToolFragments:
    """The tool calls of one answer."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def mend(self, fragments: list[Any]) -> tuple[list[Any], bool]:
        """*fragments* of one chunk as they should be, and whether anything had to be put right."""
        mended: list[Any] = []
        changed = False
        for fragment in fragments:
            if not isinstance(fragment, dict) or not isinstance(fragment.get("function"), dict | None):
                mended.append(fragment)
                continue
            right = self._mend(fragment)
            changed = changed or right != fragment
            if right is not None:
                mended.append(right)
        return mended, changed

    def _mend(self, fragment: dict[str, Any]) -> dict[str, Any] | None:
        """*fragment* as it should be; None: it says what was said before."""
        function = fragment.get("function") or {}
        if fragment.get("id") and not isinstance(fragment["id"], str):
            fragment = {**fragment, "id": str(fragment["id"])}
        index, call_id = fragment.get("index"), fragment.get("id") or None
        name, arguments = _name(function.get("name")), _text(function.get("arguments"))
        call = self._continued(index, call_id, name)
        if call is not None and arguments and arguments.lstrip().startswith("{") and call.complete:
            if call_id is None or call_id != call.call_id:
                # JSON that goes on after its end is the next call, whose index is the same and whose id is missing.
                name, call = name or call.name, None
            elif arguments == call.arguments:
                # Said in pieces, and whole at the end.
                return None
        opens = call is None
        if call is None:
            if not (call_id or name):
                return fragment
            call = self._open(index, call_id)
        return _right(fragment, call, name, arguments, opens)

    def _continued(self, index: Any, call_id: str | None, name: str) -> _Call | None:
        """The call that a fragment goes on with; None: it opens one, or belongs to none."""
        same_index = [call for call in self._calls if call.index == index]
        if call_id:
            same_id = [call for call in self._calls if call.call_id == call_id]
            for known in reversed(same_id):
                # Some count fragments; some give all calls one id.
                if known in same_index or not (name and known.complete):
                    return known
        if not same_index:
            return self._calls[-1] if self._calls and not call_id and not name else None
        call = same_index[-1]
        if call_id and call.call_id and name and _is_new(call, name):
            return None
        if name and call.arguments and not name.startswith(call.name):
            return None
        return call

    def _open(self, index: Any, call_id: str | None) -> _Call:
        taken = {call.place for call in self._calls}
        place = index if isinstance(index, int) and index not in taken else max(taken, default=-1) + 1
        call = _Call(index, place, call_id)
        self._calls.append(call)
        return call


def _right(fragment: dict[str, Any], call: _Call, name: str, arguments: str | None, opens: bool) -> dict[str, Any]:
    """*fragment* of *call*, which now holds what it says."""
    right = {**fragment, "index": call.place}
    if right.get("id") and not opens and call.call_id:
        # Some give each fragment an id of its own.
        del right["id"]
    call.call_id = call.call_id or right.get("id") or None
    if fragment.get("function") is None:
        return right
    said = dict(fragment["function"])
    if name:
        said["name"] = _new_part(call.name, name)
        call.name += said["name"]
        if not said["name"]:
            del said["name"]
    if "arguments" in said:
        said["arguments"] = arguments or ""
        call.arguments += said["arguments"]
    return right | {"function": said}


def _is_new(call: _Call, name: str) -> bool:
    """Whether a fragment with a name and another id opens a call: some servers give each fragment an id of its own."""
    return name != call.name or call.complete or not call.arguments


def _name(name: Any) -> str:
    return name.partition(_LEAK)[0].strip() if isinstance(name, str) else ""


def _new_part(known: str, name: str) -> str:
    """What of *name* was not said: names come in pieces, whole each time, or longer each time."""
    if name.startswith(known):
        return name[len(known) :]
    return name


def _text(arguments: Any) -> str | None:
    if arguments is None or isinstance(arguments, str):
        return arguments
    return json.dumps(arguments)
