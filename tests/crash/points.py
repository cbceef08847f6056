"""The points of a process where it is harmed: found by recording what it calls, each with every fault that fits."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

from tests.chaos.plan import Round, Script

#: What a worker runs: two rounds of tools, and an answer.
SCRIPT = Script(
    (
        Round(2, 0.02, (("once", 0.0), ("again", 0.02))),
        Round(2, 0.02, (("blocking", 0.02),)),
        Round(3, 0.02),
    )
)
#: What a web process does, one request each.
REQUESTS = ("post", "cancel", "interrupt", "delete")

_ANY = ("kill", "freeze", "break")
#: The faults of each kind of call, as `tests.crash.hook` names both.
FAULTS = {
    "begin": (*_ANY, "refuse"),
    "read": _ANY,
    "statement": (*_ANY, "refuse"),
    "commit": _ANY,
    "committed": _ANY,
    "redis": (*_ANY, "lose"),
    "request": _ANY,
    "chunk": _ANY,
}


@dataclass(frozen=True)
class Point:
    """One call, and what happens at it."""

    #: `run`, of a worker, or one of REQUESTS.
    scenario: str
    kind: str
    #: The how manieth call of its kind since the session was asked for, or since the request.
    at: int
    fault: str
    label: str = ""

    @property
    def role(self) -> str:
        return "worker" if self.scenario == "run" else "web"

    def __str__(self) -> str:
        return f"{self.fault} at {self.kind} {self.at} of {self.scenario}: {self.label}"


def points_of(scenario: str, calls: Sequence[str]) -> Iterator[Point]:
    """Every point among recorded *calls*, lines of `KIND LABEL`."""
    counts: Counter[str] = Counter()
    for call in calls:
        kind, _, label = call.partition(" ")
        counts[kind] += 1
        for fault in FAULTS[kind]:
            yield Point(scenario, kind, counts[kind], fault, label)


def sample(points: Sequence[Point], count: int, seed: int = 0) -> list[Point]:
    """So many of them, of each kind and fault in turn; other seeds choose other ones."""
    chance = random.Random(seed)
    groups: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for point in points:
        groups[point.kind, point.fault].append(point)
    turns = list(groups.values())
    chance.shuffle(turns)
    for group in turns:
        chance.shuffle(group)
    in_turn = (point for each in zip_longest(*turns) for point in each if point is not None)
    return list(islice(in_turn, count))
