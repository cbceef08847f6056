"""Every setting, read once from the environment and, for what it lacks, from `.env`."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from . import secret_files
from .env_lines import line_of
from .errors import Invalid

#: In the working directory; the variable `ENV_FILE` names another.
ENV_FILE = ".env"
#: What a shell can set, too.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

logger = logging.getLogger(__name__)


def _limit(most: int) -> int:
    return field(default=most, metadata={"off": True})  # 0 switches it off


@dataclass(frozen=True)
class Settings:
    """What the environment says; each field is the variable of the same name in capitals."""

    #: `sqlite:///path`, `sqlite:///:memory:` is refused, `mysql://user:password@host/name` or `mariadb://…`.
    database_url: str = field(default="sqlite:///var/backchat.db", repr=False)
    #: Empty: `make run` brings its own broker.
    redis_url: str = field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = 8000
    #: The model of agents that name none: `demo` or a pydantic-ai name such as `openai:gpt-5-mini`.
    chat_model: str = "demo"
    #: What callers may name beside CHAT_MODEL and the agents' models, comma-separated; `provider:*`: all of one.
    models: str = ""
    openai_api_key: str = field(default="", repr=False)
    openai_base_url: str = ""
    #: `package.module:function` that replaces the engine; empty: the engine.
    orchestrator: str = ""
    #: TOML file of agents; empty: agent 1 alone.
    agents_file: str = ""
    #: Keys of the tokens, `id:secret[,id:secret…]`, the first signs; empty: only loopback is served.
    chat_secret: str = field(default="", repr=False)
    #: Public keys of an issuer of JSON Web Tokens: a file or an https address; empty: macaroons only.
    jwt_jwks: str = ""
    #: What such tokens must say in `iss` and `aud`.
    jwt_issuer: str = ""
    jwt_audience: str = ""
    #: The claim that holds their rights; one without it may do what an owner may.
    jwt_rights_claim: str = "can"
    #: Folder of files that are named as settings are and hold what stands in no variable; empty: none.
    secrets_dir: str = field(default="", repr=False)

    #: Sessions that one worker process runs at once.
    worker_concurrency: int = 200
    #: From the first claim to the end, all attempts together.
    turn_timeout_s: int = 900
    #: Attempts that may die before a session ends as `worker_lost`.
    max_attempts: int = 3
    #: How long the event writer gathers events before it commits them.
    flush_ms: int = 100
    #: A worker whose heartbeat stands still for this long counts as dead.
    lease_s: float = 10.0
    #: Pause between two sweeps of one worker.
    sweep_s: float = 2.0
    #: How long a stopping worker lets its sessions finish before it hands them back.
    stop_grace_s: float = 20.0
    #: A model that sends nothing for this long has stalled.
    model_timeout_s: float = 120.0
    #: One that sends only signs of life (comments, empty deltas) for this long has stalled as well.
    model_keepalive_timeout_s: float = 300.0
    #: Model requests within one turn.
    max_model_requests: int = 50

    #: Largest request body, in bytes.
    max_body_bytes: int = 1024 * 1024
    #: The same of routes whose clients send the whole history with each message.
    max_history_body_bytes: int = 16 * 1024 * 1024
    #: Other people's clients that are served, comma-separated: see `app.api.compat`; `none`: none of them.
    clients: str = "trpc,chat-completions,responses,ai-sdk"
    #: Largest answer or tool result, in bytes of UTF-8.
    max_content_bytes: int = 16 * 1024 * 1024
    #: What one attempt at a turn may have, in bytes; over one of these the turn ends with what there was.
    max_thinking_bytes: int = 32 * 1024 * 1024
    #: Arguments of one tool call, as JSON.
    max_arguments_bytes: int = 4 * 1024 * 1024
    #: Arguments and results of all tool calls.
    max_tool_bytes: int = 64 * 1024 * 1024
    #: State of one checkpoint, as JSON.
    max_checkpoint_bytes: int = 16 * 1024 * 1024
    #: Tool calls that one answer of the model may ask for.
    max_calls_per_answer: int = 128
    #: Stored events of a session.
    max_turn_events: int = 100_000

    #: Limits; 0: any number. Those of an owner hold where there is a CHAT_SECRET, and so more than one.
    #: Sessions of an owner that run at once; others wait.
    max_running_per_owner: int = _limit(100)
    #: Sessions of an owner that run and wait.
    max_sessions_per_owner: int = _limit(1000)
    #: Messages of a conversation that are being answered and wait.
    max_sessions_per_conversation: int = _limit(100)
    #: Sessions of everybody that run and wait.
    max_sessions: int = _limit(10_000)
    #: Messages of an owner in a minute, in each web process.
    posts_per_minute: int = _limit(600)
    #: Polls and streams of an owner that are held at once, in each web process.
    max_held_per_owner: int = _limit(1000)

    #: Rows of agents' history that are older are pruned.
    retention_days: int = 30
    #: So are the fine-grained events of sessions that ended earlier; their rows and messages stay.
    event_retention_days: int = 7
    #: Conversations that were not used since are deleted, with all that they have.
    conversation_retention_days: int = _limit(0)
    #: Newest rows of history that each agent keeps.
    max_events_per_agent: int = 50_000
    #: `on`: the history of an agent goes when it has left the agents file.
    forget_removed_agents: str = ""
    #: Who gets the sessions of the first deployment, which knew no owners.
    adopt_owner: str = "local"
    #: Pause between two prunings.
    cleanup_interval_s: int = 21_600

    #: Path below which a proxy serves it, such as `/chat`; empty: at the root.
    url_prefix: str = ""
    #: Origins whose pages may call the API, comma-separated; `*`: any; empty: none.
    cors_origins: str = ""
    #: Web processes and connections.
    web_workers: int = 1
    log_level: str = "INFO"
    #: `on` or `content` (with what was said): each attempt is a span; needs the extra `traces`.
    traces: str = ""
    #: `text` or `json`.
    log_format: str = "text"
    #: `on`: a line for each request, polls as well.
    access_log: str = ""
    #: Where a worker shows its metrics; empty: nowhere. The web process shows its own at `/metrics`.
    metrics_port: str = ""
    metrics_host: str = "127.0.0.1"
    #: Folder where processes of this machine share their metrics; prometheus-client reads the variable as well.
    # Empty with WEB_WORKERS above 1: the web processes make one of their own.
    prometheus_multiproc_dir: str = ""

    @property
    def beat_s(self) -> float:
        """Pause between two heartbeats: many may fail before their worker counts as dead."""
        return min(1.0, self.lease_s / 8)

    def sharing_metrics(self, folder: str) -> Settings:
        """These settings with *folder* for the metrics; processes that are started from now on share it as well."""
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        return replace(self, prometheus_multiproc_dir=folder)

    def require_metrics_folder(self) -> None:
        """Call it before the metrics are imported, which open their files there at once.

        Raises:
            Invalid: nothing can be written to `PROMETHEUS_MULTIPROC_DIR`.
        """
        folder = self.prometheus_multiproc_dir
        if folder and not (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):
            raise Invalid("PROMETHEUS_MULTIPROC_DIR is no folder that can be written")

    @property
    def logs_requests(self) -> bool:
        """Whether each request gets a line.

        Raises:
            Invalid: ACCESS_LOG says neither yes nor no.
        """
        return _is_on("ACCESS_LOG", self.access_log)

    @property
    def forgets_removed_agents(self) -> bool:
        """Whether the history of an agent goes when it has left the agents file.

        Raises:
            Invalid: FORGET_REMOVED_AGENTS says neither yes nor no.
        """
        return _is_on("FORGET_REMOVED_AGENTS", self.forget_removed_agents)

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port where a worker shows its metrics; None: nowhere.

        Raises:
            Invalid: METRICS_PORT is no port.
        """
        if not self.metrics_port:
            return None
        if not re.fullmatch("[0-9]{1,5}", self.metrics_port, re.ASCII) or not 0 < int(self.metrics_port) < 65536:
            raise Invalid("METRICS_PORT must be a port, such as 9100")
        return self.metrics_host, int(self.metrics_port)

    @property
    def local_url(self) -> str:
        """Where a browser or command line on this machine finds the web process."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def without_secrets(self) -> Settings:
        """These settings for tools and orchestrators: what may not be shown is empty."""
        hidden: dict[str, Any] = {setting.name: "" for setting in fields(self) if not setting.repr}
        return replace(self, **hidden)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the settings: each from its variable, else from its file in `SECRETS_DIR`.

        A number that is absent, unparseable, zero (but for limits) or negative means its default, with a warning for
        all but the first: a typo must never mean "delete everything" or "wait for ever".

        Args:
            environment: In place of the process's own, which `.env` adds to.

        Raises:
            Invalid: as `read_env_file`, or `SECRETS_DIR` can't be read.
        """
        if environment is None:
            read_env_file()
            environment = os.environ
        folder = environment.get("SECRETS_DIR", "").strip()
        secrets = secret_files.read(folder, [setting.name.upper() for setting in fields(cls)])
        values: dict[str, object] = {}
        for setting in fields(cls):
            raw = environment.get(setting.name.upper(), "").strip() or secrets.get(setting.name.upper(), "")
            if not raw:
                continue
            if isinstance(setting.default, str):
                values[setting.name] = raw
                continue
            kind = type(setting.default)
            try:
                number: float = int(raw) if kind is int else float(raw)
            except (TypeError, ValueError):
                number = -1
            least = 0 if setting.metadata.get("off") else sys.float_info.min
            if not least <= number < float("inf"):
                logger.warning("setting ignored, default used", extra={"setting": setting.name.upper()})
                continue
            values[setting.name] = number
        return cls(**values)  # type: ignore[arg-type]


def read_env_file() -> None:
    """Put into the environment what `.env` says and the environment does not.

    Libraries find their own variables there, too: the keys of model providers, proxies.

    Raises:
        Invalid: the file can't be read, or a line of it. Names the line and never quotes it: it may hold a key.
    """
    named = os.environ.get("ENV_FILE", "").strip()
    path = Path(named or ENV_FILE)
    # A folder of this name is a virtual environment of somebody's.
    if not named and not path.is_file():
        return
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Invalid(f"{path} can't be read: {reason}") from error
    found: dict[str, str] = {}
    for binding in parse_stream(StringIO(text)):
        name, value = binding.key, binding.value
        if binding.error or (name is not None and (value is None or "\0" in value or not _NAME.fullmatch(name))):
            raise Invalid(f"{path}, line {line_of(binding)}: write it as NAME=value, or NAME='value' with spaces or #")
        if name is not None and value is not None:
            found[name] = value
    for name, value in found.items():
        os.environ.setdefault(name, value)


def _is_on(name: str, value: str) -> bool:
    if value.lower() not in ("", "on", "off"):
        raise Invalid(f"{name} must be `on` or `off`")
    return value.lower() == "on"


def forget_secret() -> None:
    """Take CHAT_SECRET out of the environment, which programs that tools start are given."""
    os.environ.pop("CHAT_SECRET", None)


def environment_with(**changes: str) -> dict[str, str]:
    """The environment for a child process: this one's, with *changes*."""
    return dict(os.environ) | changes
