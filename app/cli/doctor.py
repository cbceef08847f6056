"""`doctor`: what is wrong with a deployment, and what to do about it."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import click

from .. import access, db
from ..agents import Agents
from ..broker import diagnosis as broker_diagnosis
from ..db import diagnosis as database_diagnosis
from ..db import errors as database_errors
from ..db import schema
from ..errors import BackchatError
from ..sessions import census, inspection
from ..settings import Settings
from .output import EXIT_FAULT, as_json, dump, table

#: Clocks that differ by more make `createdAt` and what is counted from it wrong.
_CLOCK_S = 2.0
#: For answers of up to 16 MiB.
_PACKET_BYTES = 64 * 1024 * 1024
#: A queued session that waits longer finds no worker with a free place.
_QUEUED_S = 30.0
_ANSWER_S = 5.0
_OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    state: Literal["ok", "warning", "error"]
    found: str
    #: What to do; empty: nothing.
    advice: str = ""


@click.command()
@as_json
def doctor(as_json: bool) -> None:
    """Check settings, schema, clocks, database, Redis, workers and the model; says what to do for each finding.

    Exit status: 0 nothing is wrong (there may be warnings), 1 something is.
    """
    findings = list(examine())
    if as_json:
        dump(*map(asdict, findings))
    else:
        table(["state", "check", "found"], [[each.state, each.check, _told(each)] for each in findings], colour=0)
    sys.exit(EXIT_FAULT if any(each.state == "error" for each in findings) else 0)


def _told(finding: Finding) -> str:
    return f"{finding.found} — {finding.advice}" if finding.advice else finding.found


def examine() -> Iterator[Finding]:
    """Every check; one that fails for another reason than it looks for is a finding of its own."""
    try:
        settings = Settings.from_environment()
    except BackchatError as error:
        yield Finding("settings", "error", error.detail, "mend that variable or file")
        return
    for name, check in CHECKS.items():
        try:
            yield from check(settings)
        except BackchatError as error:
            yield Finding(name, "error", database_errors.in_full(error), "see the other findings")


def _settings(settings: Settings) -> Iterator[Finding]:
    if settings.chat_secret:
        for key_id in access.short(settings.chat_secret):
            found = f"the secret of CHAT_SECRET's key {key_id} is short"
            yield Finding("settings", "warning", found, "take what `openssl rand -hex 32` prints")
    elif settings.host not in ("127.0.0.1", "::1", "localhost"):
        found = f"HOST={settings.host} and no CHAT_SECRET: the web process does not start"
        yield Finding("settings", "error", found, "set CHAT_SECRET to what `openssl rand -hex 32` prints")
    Agents.load(settings.agents_file)
    settings.require_metrics_folder()
    yield Finding("settings", "ok", "they can be read")


def _database(settings: Settings) -> Iterator[Finding]:
    db.open_database(settings.database_url)
    try:
        found = database_diagnosis.examine()
    except BackchatError as error:
        advice = "start it, or correct DATABASE_URL; sessions are refused with 503 until then"
        yield Finding("database", "error", database_errors.in_full(error), advice)
        return
    yield Finding("database", "ok", found.version)
    yield _clock("database", found.clock_ahead_s)
    if db.is_sqlite():
        return
    if found.packet_bytes < _PACKET_BYTES:
        what = f"max_allowed_packet is {found.packet_bytes // 2**20} MiB"
        yield Finding("packet size", "warning", what, "set it to 64M: answers may be as long as MAX_CONTENT_BYTES then")
    else:
        yield Finding("packet size", "ok", f"max_allowed_packet is {found.packet_bytes // 2**20} MiB")
    if "STRICT_TRANS_TABLES" in found.sql_mode:
        yield Finding("SQL mode", "ok", found.sql_mode)
    else:
        yield Finding("SQL mode", "error", found.sql_mode, "let clients set sql_mode: a proxy takes it away")
    if not found.charset.startswith("utf8mb4"):
        yield Finding("character set", "error", found.charset, "ALTER DATABASE … CHARACTER SET utf8mb4, then migrate")
    if found.flush_at_commit != "1":
        what = f"innodb_flush_log_at_trx_commit is {found.flush_at_commit}"
        yield Finding("durability", "warning", what, "set it to 1: a power cut loses sessions that were accepted")


def _schema(settings: Settings) -> Iterator[Finding]:
    try:
        schema.require_current()
    except BackchatError as error:
        yield Finding("schema", "error", database_errors.in_full(error), f"run: {schema.MIGRATE_COMMAND}")
    else:
        yield Finding("schema", "ok", "it is that of this code")


def _redis(settings: Settings) -> Iterator[Finding]:
    if not settings.redis_url:
        yield Finding("redis", "warning", "REDIS_URL is not set", "only `make run` brings a broker of its own")
        return
    try:
        found = broker_diagnosis.examine(settings.redis_url)
    except BackchatError as error:
        advice = "start it, or correct REDIS_URL; sessions are accepted and wait until then"
        yield Finding("redis", "error", error.detail, advice)
        return
    yield Finding("redis", "ok", f"version {found.version}")
    if int(found.version.partition(".")[0]) < 6:
        yield Finding("redis", "warning", f"version {found.version} is old", "take 6.2 or newer")
    if found.memory_policy not in ("", "noeviction"):
        advice = "CONFIG SET maxmemory-policy noeviction: jobs would vanish, and sessions wait for the sweeper"
        yield Finding("redis memory", "warning", f"maxmemory-policy is {found.memory_policy}", advice)
    if found.write_fault:
        advice = "is it a replica, or full? Sessions are accepted and wait until it takes writes"
        yield Finding("redis writes", "error", found.write_fault, advice)
    yield _clock("redis", found.clock_ahead_s)


def _workers(settings: Settings) -> Iterator[Finding]:
    now, holders = census.take(settings.sweep_s), inspection.workers()
    alive = [each for each in holders if each.cause is None]
    if alive:
        yield Finding("workers", "ok", f"{len(alive)} alive, {now.running} sessions run")
    else:
        yield Finding("workers", "error", "none is registered", "start one: python -m worker")
    for each in holders:
        if each.cause is not None:
            what = f"{each.name} holds {len(each.sessions)} sessions and is dead: {each.cause}"
            yield Finding("workers", "warning", what, "others take them over within 15 s; else look at their logs")
    if now.oldest_queued_s > _QUEUED_S:
        what = f"{now.queued} sessions wait for a worker, the oldest for {now.oldest_queued_s:.0f} s"
        yield Finding("queue", "error", what, "start more workers, or raise WORKER_CONCURRENCY")
    if now.sweep_age_s is not None and now.sweep_age_s > max(_QUEUED_S, settings.sweep_s * 5):
        what = f"nobody has swept for {now.sweep_age_s:.0f} s"
        yield Finding("sweeper", "error", what, "do workers run, and reach the database?")


def _model(settings: Settings) -> Iterator[Finding]:
    models = Agents.load(settings.agents_file).models(settings)
    if not any(name.startswith("openai") for name in models):
        yield Finding("model", "ok", f"{', '.join(sorted(models))}: not asked")
        return
    if not settings.openai_api_key and not settings.openai_base_url:
        yield Finding("model", "error", "no OPENAI_API_KEY is set", "set it, or OPENAI_BASE_URL")
        return
    url = (settings.openai_base_url or _OPENAI).rstrip("/")
    request = urllib.request.Request(f"{url}/models")  # noqa: S310 - the operator's own URL
    # What is said may be pasted anywhere: without the user and password that it may have.
    url = re.sub("//[^/@]*@", "//", url)
    request.add_header("Authorization", f"Bearer {settings.openai_api_key or 'none'}")
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as response:  # noqa: S310
            yield Finding("model", "ok", f"{url} answers with {response.status}")
    except urllib.error.HTTPError as error:
        with error:
            refused = error.code in (401, 403)
        advice = "correct OPENAI_API_KEY" if refused else "the server is there; not every one lists its models"
        yield Finding("model", "error" if refused else "warning", f"{url} answers with {error.code}", advice)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        yield Finding("model", "error", f"{url} can't be reached: {why}", "correct OPENAI_BASE_URL, or let it through")


def _clock(of: str, ahead_s: float) -> Finding:
    if abs(ahead_s) <= _CLOCK_S:
        return Finding(f"{of} clock", "ok", f"{abs(ahead_s):.1f} s from this machine's")
    how = "ahead of" if ahead_s > 0 else "behind"
    return Finding(f"{of} clock", "warning", f"{abs(ahead_s):.0f} s {how} this machine's", "run NTP on both")


CHECKS: dict[str, Callable[[Settings], Iterator[Finding]]] = {
    "settings": _settings,
    "database": _database,
    "schema": _schema,
    "redis": _redis,
    "workers": _workers,
    "model": _model,
}
