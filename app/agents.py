"""Agents: named configurations of model, instructions and tools, read from a TOML file.

[[agents]]
id = 1
name = "Assistant"
model = "openai:gpt-5-mini"          # optional: CHAT_MODEL
fallback = "openai-chat:llama3.2"    # optional: asked when that one fails
instructions = "Be brief."
tools = ["current_time", "calculate", "search_conversation", "my_package.tools:weather"]
context_tokens = 128000              # optional: the model's window …
context_percent = 80                 # … and how much of it earlier exchanges may take

max_turn_tokens = 200000             # optional: a turn that would take more ends as `budget_exhausted` …
max_turn_cost = 0.50                 # … and so does one that would cost more than this, in money

[[agents.mcp_servers]]
name = "files"
command = "mcp-server-files"         # stdio …
args = ["/srv/files"]
required = true                      # optional: no turn without it
# url = "http://127.0.0.1:9000/mcp"  # … or streamable HTTP

[[prices]]                           # optional: what a million tokens cost from a date (UTC) on
model = "openai:gpt-5-mini"
from = 2026-08-01
input = 0.25
output = 2.00
cache_read = 0.025                   # optional: as input
cache_write = 0.25                   # optional: as input
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from .errors import Invalid, UnknownAgent
from .prices import Prices
from .settings import Settings

#: Tools that an agent has when its file names none.
DEFAULT_TOOLS = ("current_time", "calculate", "search_conversation")


class _Strict(BaseModel):
    # A misspelt key must be reported, not ignored.
    model_config = ConfigDict(extra="forbid", frozen=True)


def _micros(value: object) -> int:
    """Money as it stands in the file, in whole micro-units."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number")
    micros = Decimal(value) * 1_000_000
    if not micros.is_finite() or not 0 <= micros < 2**53 or micros != int(micros):
        raise ValueError("must be 0 or more, with up to six decimals")
    return int(micros)


#: Money: a number in the file, whole micro-units here.
Micros = Annotated[int, BeforeValidator(_micros)]


class McpServer(_Strict):
    """A server of tools, over stdio (`command`) or streamable HTTP (`url`)."""

    name: str
    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    #: Its tools may run again when a resumed turn does not know how the first run ended.
    repeatable: bool = False
    #: Without it, turns fail; the servers that are not required are left out while they can't be used.
    required: bool = False

    @model_validator(mode="after")
    def _one_transport(self) -> McpServer:
        if (self.command is None) == (self.url is None):
            raise ValueError("name either `command` or `url`")
        if (self.url and (self.args or self.env)) or (self.command and self.headers):
            raise ValueError("`args` and `env` belong to `command`, `headers` to `url`")
        return self


class Agent(_Strict):
    """One `[[agents]]` entry."""

    id: int = Field(ge=1, le=2**31 - 1)
    name: str
    description: str = ""
    #: None: the model of the deployment (CHAT_MODEL).
    model: str | None = None
    #: Asked when the model fails before anything of its answer was shown.
    fallback: str | None = None
    instructions: str = ""
    #: Names of built-in tools or `package.module:function`.
    tools: tuple[str, ...] = DEFAULT_TOOLS
    mcp_servers: tuple[McpServer, ...] = ()
    #: The model's window, in tokens.
    context_tokens: int = Field(default=128_000, ge=1_000)
    #: How much of the window the conversation may take; the rest is for tools and the answer.
    context_percent: int = Field(default=80, ge=1, le=100)
    #: Tokens, and micro-units of money, that one turn may take; a request that would go beyond is not made.
    max_turn_tokens: int | None = Field(default=None, ge=1)
    max_turn_cost: Micros | None = None

    @model_validator(mode="after")
    def _names_of_its_own(self) -> Agent:
        names = [server.name for server in self.mcp_servers]
        if len(names) != len(set(names)):
            raise ValueError("two `mcp_servers` share a name")
        if len(self.tools) != len(set(self.tools)):
            raise ValueError("a tool is named twice")
        return self


DEFAULT_AGENT = Agent(
    id=1,
    name="Assistant",
    description="Answers questions and uses tools.",
    instructions="You are a helpful assistant. Answer in the language of the question.",
)


class Price(_Strict):
    """One `[[prices]]` entry: money for a million tokens."""

    model: str
    since: date = Field(alias="from")
    input: Micros
    output: Micros
    cache_read: Micros | None = None
    cache_write: Micros | None = None

    def prices(self) -> Prices:
        of_input = self.input
        return Prices(
            input=of_input,
            output=self.output,
            cache_read=of_input if self.cache_read is None else self.cache_read,
            cache_write=of_input if self.cache_write is None else self.cache_write,
        )


class _File(_Strict):
    agents: tuple[Agent, ...] = ()
    prices: tuple[Price, ...] = ()

    @model_validator(mode="after")
    def _one_price_a_day(self) -> _File:
        days = [(price.model, price.since) for price in self.prices]
        if len(days) != len(set(days)):
            raise ValueError("two `prices` of a model have the same date")
        return self


def _told(error: ValidationError) -> str:
    """What is wrong, and where: `agents.0.id: Field required`."""
    faults = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(map(str, fault["loc"]))
        faults.append(f"{place}: {fault['msg'].removeprefix('Value error, ')}")
    return "; ".join(faults)


def _named(settings: Settings) -> set[str]:
    return {each.strip() for each in settings.models.split(",")} - {"", "*", ":*"}


class Agents:
    """The configured agents by id; agent 1 always exists."""

    def __init__(self, agents: tuple[Agent, ...] = (), prices: tuple[Price, ...] = ()) -> None:
        self._by_id: Mapping[int, Agent] = {DEFAULT_AGENT.id: DEFAULT_AGENT} | {a.id: a for a in agents}
        # The newest first.
        self._prices = sorted(prices, key=lambda price: price.since, reverse=True)

    @classmethod
    def load(cls, path: str) -> Agents:
        """Read *path*; the empty path is agent 1 alone.

        Raises:
            Invalid: the file is missing, no TOML, or says something that is not allowed.
        """
        if not path:
            return cls()
        try:
            # Money in binary fractions would be off by a little.
            parsed = _File.model_validate(tomllib.loads(Path(path).read_text("utf-8"), parse_float=Decimal))
        except OSError as error:
            raise Invalid(f"agents file {path}: {error.strerror}") from error
        except ValidationError as error:
            raise Invalid(f"agents file {path}: {_told(error)}") from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise Invalid(f"agents file {path}: {error}") from error
        ids = [agent.id for agent in parsed.agents]
        if len(ids) != len(set(ids)):
            raise Invalid(f"agents file {path}: two agents share an id")
        return cls(parsed.agents, parsed.prices)

    def __iter__(self) -> Iterator[Agent]:
        return iter(sorted(self._by_id.values(), key=lambda agent: agent.id))

    def offers(self, model: str, settings: Settings) -> bool:
        """Sessions may use *model*: it is the deployment's, an agent's, or of MODELS (`provider:*`: all of one)."""
        # Whatever else a library could load by its name would be loaded with the server's keys.
        if model == settings.chat_model or any(model == agent.model for agent in self):
            return True
        named = _named(settings)
        provider, colon, _ = model.partition(":")
        return model in named or (bool(colon) and f"{provider}:*" in named)

    def prices(self, model: str, on: date | None = None) -> Prices | None:
        """What tokens of *model* cost on a day, by default today; None: it has no price."""
        if not self._prices:
            return None
        day = on or datetime.now(UTC).date()
        return next((price.prices() for price in self._prices if price.model == model and price.since <= day), None)

    def models(self, settings: Settings) -> set[str]:
        """The models that are configured by their whole names."""
        of_agents = {model for agent in self for model in (agent.model, agent.fallback) if model}
        return {settings.chat_model} | of_agents | {each for each in _named(settings) if not each.endswith(":*")}

    def get(self, agent_id: int) -> Agent:
        """The agent with this id.

        Raises:
            UnknownAgent: none is configured under it.
        """
        try:
            return self._by_id[agent_id]
        except KeyError:
            raise UnknownAgent.of(agent_id) from None
