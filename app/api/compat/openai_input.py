"""What OpenAI's two APIs have in common: models, messages, parameters, errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.errors import Invalid, NotFound
from app.parameters import Parameters, ReasoningEffort
from app.sessions.options import Said

from ..schemas import MAX_MESSAGE, encodable
from ..services import services

#: `model` of an agent: its id after this.
AGENT = "agent-"
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_SYSTEM = frozenset({"system", "developer"})
_TYPES = {402: "insufficient_quota", 429: "rate_limit_exceeded"}
_CODES = {"unauthorized": "invalid_api_key", "invalid_request": "invalid_request_error"}


class ModelNotFound(NotFound):
    """No agent and no model is offered under this name."""

    code = "model_not_found"


class Unsupported(Invalid):
    """The request asks for what Backchat has not got."""

    code = "unsupported_parameter"


class OpenAIParameters(BaseModel):
    """What both APIs say of the model in the same words; what is not known is passed over."""

    model_config = ConfigDict(extra="ignore")

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    reasoning_effort: ReasoningEffort | None = None
    model: Annotated[str, AfterValidator(encodable)] = Field(min_length=1, max_length=128)

    def parameters(self, **more: Any) -> Parameters:
        """The parameters that were given, with *more*; None is not given."""
        names = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "reasoning_effort")
        given = {name: getattr(self, name) for name in names} | more
        return Parameters.of({name: value for name, value in given.items() if value is not None})


def agent_and_model(name: str) -> tuple[int, str | None]:
    """The agent and the model that *name* means: an agent's, or agent 1 with the model of this name.

    Raises:
        ModelNotFound: neither; no other one is taken in its place.
    """
    here = services()
    digits = name.removeprefix(AGENT)
    if name.startswith(AGENT) and digits.isascii() and digits.isdecimal() and len(digits) <= 10:
        if any(agent.id == int(digits) for agent in here.agents):
            return int(digits), None
    elif here.agents.offers(name, here.settings):
        return 1, name
    raise ModelNotFound(f"the model {name!r} does not exist: GET /v1/models lists those that do")


def text_of(content: Any, place: str) -> str:
    """The text of a message's content: a string, or parts of text.

    Raises:
        Invalid, Unsupported: something in it is no text; names it.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Invalid(f"{place} must be text", parameter=place)
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if isinstance(part, dict) else None
        if kind not in _TEXT_PARTS or not isinstance(text, str):
            raise Unsupported(f"only parts of text can be taken, not {kind!r}", parameter=f"{place}[{index}]")
        texts.append(text)
    return "".join(texts)


def conversation_of(messages: Iterable[tuple[str, str]], place: str) -> tuple[str, list[Said], str]:
    """The message to answer, what was said before, and instructions, of these pairs of role and text.

    What the system says before everything else are instructions.

    Raises:
        Invalid: the last is not the user's; names *place*.
    """
    said = [("system" if role in _SYSTEM else role, _checked(text, place)) for role, text in messages]
    first = next((index for index, (role, _) in enumerate(said) if role != "system"), len(said))
    instructions = "\n\n".join(text for _, text in said[:first] if text)
    *before, last = said[first:] or [("", "")]
    if last[0] != "user" or not last[1].strip():
        raise Invalid("the last message must be the user's and not blank", parameter=place)
    if len(last[1]) > MAX_MESSAGE:
        raise Invalid(f"the last message may have {MAX_MESSAGE} characters", parameter=place)
    return last[1], [Said(role, text) for role, text in before], instructions


def _checked(text: str, place: str) -> str:
    try:
        return encodable(text)
    except ValueError as error:
        raise Invalid(f"a text {error}", parameter=place) from error


def refuse(given: Mapping[str, Any], names: Iterable[str], why: str) -> None:
    """Raise Unsupported if one of these is given and not empty."""
    for name in names:
        if given.get(name):
            raise Unsupported(f"{name} can't be used: {why}", parameter=name)


def error_of_problem(problem: Mapping[str, Any]) -> dict[str, Any]:
    """A problem in OpenAI's words."""
    status = problem["status"]
    kind = _TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    faults = problem.get("errors") or {}
    parameter = problem.get("parameter") or next(iter(faults), None)
    code = _CODES.get(problem["code"], problem["code"])
    return {"error": {"message": problem["detail"], "type": kind, "param": parameter, "code": code}}


def usage_of(counts: Mapping[str, Any] | None) -> dict[str, int]:
    """Tokens by our names; all zero where the provider told none."""
    names = ("inputTokens", "outputTokens", "cacheReadTokens", "totalTokens")
    return {name: int((counts or {}).get(name) or 0) for name in names}
