"""What a caller says of the model, in the words of each API; what an API has no word for fails the turn by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from pydantic_ai.models import Model
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.settings import ModelSettings

from app.parameters import Parameters
from worker.orchestrator import TurnFailed

#: Parameter → the name of pydantic-ai's setting.
_SETTINGS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "stop": "stop_sequences",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_EVERYWHERE = frozenset({"temperature", "top_p", "max_tokens"})
#: What a model that reasons takes no more.
_SAMPLING = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty"})
#: How the parameters are called on the wire, where it differs.
_ON_THE_WIRE = {
    "max_tokens": ("max_completion_tokens", "max_tokens", "max_output_tokens"),
    "stop": ("stop", "stop_sequences"),
    "reasoning_effort": ("reasoning_effort", "reasoning", "effort"),
}


def settings_of(parameters: Parameters, model: Model) -> ModelSettings:
    """What has to be said to *model*. The demo model is a script: nothing changes it, and nothing is refused.

    Raises:
        TurnFailed: `unsupported_parameter`, which names those that it can't take.
    """
    given = parameters.given()
    if not given or isinstance(model, FunctionModel):
        return ModelSettings()
    if refused := given.keys() - _taken(model, given):
        raise unsupported(*refused)
    said: dict[str, Any] = {_SETTINGS[name]: value for name, value in given.items() if name in _SETTINGS}
    if "stop_sequences" in said:
        said["stop_sequences"] = list(said["stop_sequences"])
    if effort := given.get("reasoning_effort"):
        if isinstance(model, OpenAIChatModel | OpenAIResponsesModel):
            said["openai_reasoning_effort"] = effort
        else:
            said["thinking"] = False if effort == "none" else effort
    return cast(ModelSettings, said)


def _taken(model: Model, given: Mapping[str, Any]) -> frozenset[str]:
    profile: Mapping[str, Any] = model.profile
    if isinstance(model, OpenAIChatModel):
        taken = frozenset({*_SETTINGS, "reasoning_effort"})
    elif isinstance(model, OpenAIResponsesModel):
        taken = _EVERYWHERE | {"reasoning_effort"}
    else:
        taken = _EVERYWHERE | {"stop"} | ({"reasoning_effort"} if profile.get("supports_thinking") else set())
    return taken - _SAMPLING if _reasons(profile, given.get("reasoning_effort")) else taken


def _reasons(profile: Mapping[str, Any], effort: str | None) -> bool:
    """Whether pydantic-ai would leave sampling parameters out, as OpenAI's models refuse them while they reason."""
    if not profile.get("openai_supports_reasoning"):
        return False
    efforts = profile.get("openai_reasoning_efforts")
    may_be_off = profile.get("openai_supports_reasoning_effort_none") if efforts is None else "none" in efforts
    if not may_be_off:
        return True
    return bool(profile.get("thinking_enabled_by_default")) if effort is None else effort != "none"


def refused(parameters: Parameters, words: str) -> list[str]:
    """The parameters of the caller that a provider names in its *words*."""
    named = set(re.findall(r"\w+", words))
    return [name for name in parameters.given() if named & {*_ON_THE_WIRE.get(name, (name,))}]


def unsupported(*names: str) -> TurnFailed:
    listed = ", ".join(repr(name) for name in sorted(names))
    return TurnFailed("unsupported_parameter", f"The model does not take {listed}.")
