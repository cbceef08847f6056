"""Bodies and parameters as pydantic models; the OpenAPI page is made from them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from app.db.paging import Page
from app.parameters import Parameters, ReasoningEffort
from app.sessions.options import Options, Said

#: Longest message, in characters; the body limit of 1 MiB is usually reached first.
MAX_MESSAGE = 1_000_000

#: More unknown fields than this are not told one by one.
MOST_UNKNOWN = 10

#: Messages of a history that comes along.
MOST_MESSAGES = 10_000
#: Pairs of metadata, and the characters of a name and of a value.
MOST_METADATA, METADATA_NAME, METADATA_VALUE = 16, 64, 512

UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


class Camel(BaseModel):
    """camelCase outside, snake_case inside; an unknown field is an error that names it."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", populate_by_name=False)

    @model_validator(mode="before")
    @classmethod
    def _not_many_more(cls, body: Any) -> Any:
        # Each unknown field costs a fault: tens of thousands of them would take seconds.
        if isinstance(body, dict) and len(body) > len(cls.model_fields) + MOST_UNKNOWN:
            raise ValueError(f"has {len(body)} fields, of which few can be known")
        return body


class Shown(BaseModel):
    """What the API answers; unknown extra fields may appear."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow")


def page_json(name: str, page: Page[Any]) -> dict[str, Any]:
    """A page of a list as the API answers it, its rows under *name*."""
    return {name: page.rows, "nextCursor": page.next_cursor, "hasMore": page.has_more}


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def encodable(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("contains half of a surrogate pair")
    return text


def _uuid(text: str) -> str:
    if not UUID.fullmatch(text):
        raise ValueError("must be a UUID")
    return text.lower()


Text = Annotated[str, AfterValidator(encodable), AfterValidator(_not_blank)]
Uuid = Annotated[str, AfterValidator(_uuid), Field(json_schema_extra={"format": "uuid"})]


Metadata = Annotated[
    dict[
        Annotated[str, AfterValidator(encodable), Field(min_length=1, max_length=METADATA_NAME)],
        Annotated[str, AfterValidator(encodable), Field(max_length=METADATA_VALUE)],
    ],
    Field(max_length=MOST_METADATA),
]


class SaidIn(Camel):
    """One message of a history that the caller sends along."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, AfterValidator(encodable)]


class ParametersIn(Camel):
    """What may be said of the model. One that the model can't take ends the session as `unsupported_parameter`."""

    temperature: float | None = Field(None, ge=0, le=2, strict=True)
    top_p: float | None = Field(None, gt=0, le=1, strict=True)
    max_tokens: int | None = Field(
        None, ge=1, le=2**31 - 1, strict=True, description="Tokens of one answer of the model."
    )
    stop: list[Annotated[str, AfterValidator(encodable), Field(min_length=1, max_length=1000)]] | None = Field(
        None, min_length=1, max_length=16
    )
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1, strict=True)
    presence_penalty: float | None = Field(None, ge=-2, le=2, strict=True)
    frequency_penalty: float | None = Field(None, ge=-2, le=2, strict=True)
    reasoning_effort: ReasoningEffort | None = None

    def parameters(self) -> Parameters:
        return Parameters.of(self.model_dump(include=set(ParametersIn.model_fields), exclude_none=True))


class SessionIn(ParametersIn):
    """A user's message to be answered in the background."""

    message: Text = Field(max_length=MAX_MESSAGE, examples=["What is 17 % of 2,340?"])
    conversation_id: Uuid | None = Field(None, description="Any UUID; an unknown one starts a conversation.")
    agent_id: int = Field(1, ge=1, le=2**31 - 1, strict=True)
    model: str | None = Field(None, min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")
    on_busy: Literal["enqueue", "reject", "interrupt"] = Field(
        "enqueue", description="What to do while the conversation has a running session."
    )
    messages: list[SaidIn] | None = Field(
        None,
        max_length=MOST_MESSAGES,
        description="What was said before, oldest first, in place of the conversation's own history.",
    )
    instructions: Annotated[str, AfterValidator(encodable)] | None = Field(
        None, max_length=MAX_MESSAGE, description="For this session, in addition to the agent's."
    )
    metadata: Metadata | None = Field(None, description="Notes of the caller's own, returned with the session.")
    ephemeral: bool | None = Field(
        None,
        strict=True,
        description="A conversation that begins with this message is deleted a day after it was used last.",
    )

    def options(self) -> Options:
        said = None if self.messages is None else tuple(Said(each.role, each.content) for each in self.messages)
        return Options(said, self.instructions or "", self.parameters(), self.metadata or {})


#: Fields of `SessionIn` that are options.
OPTIONS = frozenset({*ParametersIn.model_fields, "messages", "instructions", "metadata", "ephemeral"})


class SessionStarted(Shown):
    session_id: str
    conversation_id: str
    status: Literal["running"]
    token: str | None = Field(
        None,
        description="Reads and cancels this session, and nothing else, for a day; where tokens are used.",
        exclude_if=lambda token: token is None,
    )


class SessionOut(Shown):
    """A session row."""

    id: int = Field(description="Its number in this deployment; routes take `sessionId`.")
    session_id: str
    conversation_id: str | None
    agent_id: int
    status: Literal["running", "done", "error"]
    user_message: str
    final_response: str | None
    model: str | None
    total_tokens: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost: int = Field(description="Micro-units of money by the prices of the models; 0 where there are none.")
    usage_estimated: bool = Field(description="Some of the tokens were not counted by a provider.")
    processing_time_ms: int
    error_message: str | None
    error_code: str | None
    metadata: dict[str, str] = Field(description="What its caller noted.")
    finish_reason: str | None = Field(
        description="Why the model stopped: `stop`, or `length` when it reached the limit of its output."
    )
    attempt: int
    last_seq: int
    created_at: str
    updated_at: str
    started_at: str | None = Field(description="null while it waits for a worker")
    ended_at: str | None


class SessionsQuery(Camel):
    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, max_length=64)
    status: Literal["running", "done", "error"] | None = None
    agent_id: int | None = Field(None, ge=1, le=2**31 - 1)
    conversation_id: Annotated[str, AfterValidator(str.lower)] | None = Field(None, min_length=1, max_length=64)


class SessionsOut(Shown):
    sessions: list[SessionOut]
    next_cursor: str | None
    has_more: bool


class EventsQuery(Camel):
    after: int = Field(0, ge=0, le=2**31 - 1, description="The newest seq that the client has.")
    limit: int = Field(500, ge=1, le=1000)
    wait: float = Field(0, ge=0, le=25, description="Seconds to hold the request until there is news.")


class StreamQuery(Camel):
    after: int = Field(0, ge=0, le=2**31 - 1, description="Where to begin; Last-Event-ID goes before it.")


class EventOut(Shown):
    """One event; which further fields it has depends on `eventType`."""

    id: int
    session_id: str
    seq: int
    event_type: Literal["thinking", "tool_call", "delta", "done", "error"]
    attempt: int
    created_at: str


class EventsOut(Shown):
    session_id: str
    status: Literal["running", "done", "error"]
    events: list[EventOut]
    next_after: int
    has_more: bool
    poll_after_ms: int


class HealthOut(Shown):
    status: Literal["ok"]


class ReadyOut(Shown):
    #: Without the broker sessions are still accepted and polled.
    status: Literal["ok", "degraded"]
    database: Literal["ok"]
    broker: Literal["ok", "unreachable"]


class ProblemOut(Shown):
    """RFC 9457."""

    type: str
    title: str
    status: int
    code: str
    detail: str
