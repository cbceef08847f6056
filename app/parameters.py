"""What a caller may say of the model of one turn. None: the model's own default."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


@dataclass(frozen=True, slots=True)
class Parameters:
    """Which of them a model takes is its engine's to say: one that it can't take fails the turn and is named."""

    #: 0 to 2.
    temperature: float | None = None
    #: Above 0, to 1.
    top_p: float | None = None
    #: Tokens of one answer of the model.
    max_tokens: int | None = None
    #: Texts at which the model stops.
    stop: tuple[str, ...] | None = None
    seed: int | None = None
    #: -2 to 2, as the next.
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    reasoning_effort: ReasoningEffort | None = None

    def given(self) -> dict[str, Any]:
        """Those that the caller has set, by field."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def of(cls, given: dict[str, Any]) -> Parameters:
        """From what `given` gave, also after it was JSON."""
        stop = given.get("stop")
        return cls(**given | {"stop": None if stop is None else tuple(stop)})
