"""What a chaos run does and when: all of it follows from the seed."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worker.engine.tool_calls import OUTCOME_UNKNOWN

UNKNOWN = OUTCOME_UNKNOWN.split(":")[0]
#: Tools that may run at most once.
ONCE = frozenset({"once", "blocking"})


@dataclass(frozen=True)
class Round:
    """One model answer of a turn: text in pieces, then tool calls; the last one calls none."""

    pieces: int
    every_s: float
    tools: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Script:
    """All that the model says in a turn."""

    rounds: tuple[Round, ...]

    def to_json(self) -> dict[str, Any]:
        """As `tests.model_server` wants it."""
        return {"answers": [self._answer(number) for number in range(len(self.rounds))], "record": False}

    def _answer(self, number: int) -> dict[str, Any]:
        this = self.rounds[number]
        steps: list[dict[str, Any]] = [{"delay": this.every_s}]
        if number:
            steps += [{"text": "Heard: "}, {"echo": "tool"}, {"text": ". "}]
        steps.append({"repeat": {"text": f"r{number}p{{i}} ", "count": this.pieces, "every": this.every_s}})
        for index, (tool, seconds) in enumerate(this.tools):
            call = {"index": index, "id": f"call-{{n}}-{index}", "name": tool}
            steps += [
                {"tool": call | {"arguments": '{"seco'}},
                {"delay": 0.02},
                {"tool": {"index": index, "arguments": f'nds": {seconds}}}'}},
            ]
        return {"steps": steps}

    def answer_pattern(self, results: dict[str, str]) -> re.Pattern[str]:
        """What the answer must be, when the calls had these results (by tool call id)."""
        texts = []
        for number, this in enumerate(self.rounds):
            text = ""
            if number:
                before = range(len(self.rounds[number - 1].tools))
                heard = [results.get(f"call-{number - 1}-{index}", "?") for index in before]
                # The model is told of an unknown outcome in words of its own.
                patterns = [rf"[^|]*{UNKNOWN}[^|]*" if UNKNOWN in each else re.escape(each) for each in heard]
                text += r"Heard: " + r"\|".join(patterns) + r"\. "
            text += "".join(re.escape(f"r{number}p{piece} ") for piece in range(this.pieces))
            texts.append(text)
        return re.compile(r"\n\n".join(filter(None, texts)))


def _using(tool: str) -> Script:
    return Script((Round(2, 0.05, ((tool, 0.2),)), Round(2, 0.05)))


#: What harms its worker: kills it once, or each time, or holds its loop.
CULPRITS = (_using("crash"), _using("crash_again"), _using("holds_the_loop"), _using("holds_the_loop"))


@dataclass(frozen=True)
class Post:
    """One session to be asked for."""

    at: float
    key: str
    script: int
    #: Sessions with the same one share a conversation and run one after another.
    conversation: int | None
    #: Sent several times at once.
    copies: int
    #: Seconds after the answer; None: never.
    cancel_after: float | None


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong."""

    at: float
    kind: str
    #: Which worker or web process.
    target: int = 0
    #: How long until it is mended.
    lasts: float = 0.0


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    sessions: int
    #: Seconds over which sessions are posted and faults happen.
    lasts: float
    pollers: int
    faults: tuple[tuple[str, int], ...]
    scripts: int = 12
    #: Sessions, beside those, that harm their worker.
    culprits: int = 0
    #: Nothing begins from `quiet_from` on, for `quiet` seconds.
    quiet_from: float = math.inf
    quiet: float = 0.0


LONG = Scale(
    sessions=200,
    lasts=100.0,
    pollers=40,
    faults=(
        ("kill worker", 8),
        ("freeze worker", 5),
        ("deploy worker", 2),
        ("kill database", 2),
        ("freeze database", 1),
        ("flush redis", 3),
        ("kill redis", 2),
        ("freeze redis", 1),
        ("kill web", 4),
        ("kill web process", 2),
    ),
)
SHORT = Scale(
    sessions=50,
    lasts=30.0,
    pollers=12,
    scripts=6,
    faults=(
        ("kill worker", 3),
        ("freeze worker", 2),
        ("deploy worker", 1),
        ("kill database", 1),
        ("flush redis", 1),
        ("kill redis", 1),
        ("kill web", 1),
        ("kill web process", 1),
    ),
)


@dataclass(frozen=True)
class Plan:
    scripts: tuple[Script, ...]
    posts: tuple[Post, ...]
    faults: tuple[Fault, ...]


def make_plan(seed: int, scale: Scale, *, webs: int, workers: int, lease_s: float) -> Plan:
    """The same for the same arguments."""
    chance = random.Random(f"{seed} plan")
    scripts = tuple(_script(chance) for _ in range(scale.scripts))
    posts = [_post(chance, number, scale) for number in range(scale.sessions)]
    posts += [_culprit(chance, number, scale) for number in range(scale.culprits)]
    scripts += CULPRITS if scale.culprits else ()
    faults = [_fault(chance, kind, scale, lease_s) for kind, count in scale.faults for _ in range(count)]
    faults.sort(key=_at)
    posts = [replace(post, at=_after_quiet(post.at, scale)) for post in posts]
    faults = [replace(fault, at=_after_quiet(fault.at, scale)) for fault in faults]
    return Plan(scripts, tuple(sorted(posts, key=_at)), tuple(_aimed(chance, faults, webs, workers)))


def _after_quiet(at: float, scale: Scale) -> float:
    return at + scale.quiet if at >= scale.quiet_from else at


def _aimed(chance: random.Random, faults: Sequence[Fault], webs: int, workers: int) -> Iterator[Fault]:
    """In turn at each: the same victim again and again would leave the others in peace."""
    turn = chance.randrange(webs * workers)
    for fault in faults:
        turn += 1
        yield replace(fault, target=turn % (webs if "web" in fault.kind else workers))


def _at(planned: Post | Fault) -> float:
    return planned.at


def _script(chance: random.Random) -> Script:
    rounds = [
        Round(chance.randint(0, 15), chance.uniform(0.03, 0.2), tuple(_tools(chance)))
        for _ in range(chance.randint(1, 3))
    ]
    return Script((*rounds, Round(chance.randint(1, 30), chance.uniform(0.03, 0.2))))


def _tools(chance: random.Random) -> Sequence[tuple[str, float]]:
    return [
        (chance.choice(["once", "once", "again", "blocking"]), round(chance.uniform(0.0, 1.5), 2))
        for _ in range(chance.choice([1, 1, 2, 3]))
    ]


def _post(chance: random.Random, number: int, scale: Scale) -> Post:
    return Post(
        at=chance.uniform(0, scale.lasts * 0.9),
        key=f"post-{number}",
        script=chance.randrange(scale.scripts),
        conversation=chance.randrange(10) if chance.random() < 0.15 else None,
        copies=chance.choice([1, 1, 1, 2, 3]),
        cancel_after=chance.uniform(0, 6) if chance.random() < 0.2 else None,
    )


def _culprit(chance: random.Random, number: int, scale: Scale) -> Post:
    script = scale.scripts + chance.randrange(len(CULPRITS))
    return Post(chance.uniform(0, scale.lasts * 0.9), f"culprit-{number}", script, None, 1, None)


def _fault(chance: random.Random, kind: str, scale: Scale, lease_s: float) -> Fault:
    lasts = {
        "kill worker": (0.0, 4.0),
        # Longer than the lease, or it would be no more than a hiccup.
        "freeze worker": (lease_s * 1.2, lease_s * 2.5),
        "deploy worker": (0.0, 0.5),
        "kill database": (0.5, 4.0),
        # It takes connections and answers nothing.
        "freeze database": (1.0, 6.0),
        "kill redis": (0.5, 5.0),
        "freeze redis": (1.0, 6.0),
        "kill web": (0.0, 3.0),
        "deploy web": (0.0, 0.5),
    }.get(kind, (0.0, 0.0))
    return Fault(at=chance.uniform(2.0, scale.lasts), kind=kind, lasts=chance.uniform(*lasts))
