"""Scripted answers of fault tests, and what must hold of each that was stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.chaos.deployment import Deployment
from tests.chaos.verdict import answer_of

#: The answer stands still until the test releases it.
HOLD = {"hold": True}


def talk(name: str, pieces: int, every_s: float = 0.1) -> dict[str, Any]:
    return {"repeat": {"text": f"{name}{{i}} ", "count": pieces, "every": every_s}}


def said(name: str, pieces: int) -> str:
    return "".join(f"{name}{piece} " for piece in range(pieces))


def use(tool: str, seconds: float | None = 0.0, index: int = 0) -> dict[str, Any]:
    arguments = "{}" if seconds is None else json.dumps({"seconds": seconds})
    return {"tool": {"index": index, "id": f"call-{{n}}-{index}", "name": tool, "arguments": arguments}}


def script(deployment: Deployment, *answers: Sequence[dict[str, Any]]) -> str:
    return deployment.model_server.add({"answers": [{"steps": list(steps)} for steps in answers]})


def attempts_of(events: Sequence[dict[str, Any]]) -> list[int]:
    return [event["attempt"] for event in events]


def assert_whole(events: Sequence[dict[str, Any]], row: dict[str, Any], answer: str) -> None:
    """Numbered without a gap, fenced, ended once, and the answer the same wherever it is shown."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert attempts_of(events) == sorted(attempts_of(events))
    assert [event["seq"] for event in events if event["eventType"] in ("done", "error")] == [len(events)]
    assert answer_of(events) == events[-1]["content"] == row["finalResponse"] == answer
