"""Commands for operators: what runs and waits, how a session went, look at it again."""

from __future__ import annotations

from dataclasses import asdict

import click

from .. import audit
from ..broker.client import open_redis
from ..broker.heads import Heads
from ..broker.queue import TurnQueue
from ..errors import QueueUnavailable
from ..plain_text import plain
from ..sessions import census, inspection
from ..sessions.doorbell import Doorbell
from ..settings import Settings
from .database import opened
from .output import as_json, dump, pairs

#: Ids that are listed of one worker.
_LISTED = 10


def _jobs(settings: Settings) -> int | None:
    """How many jobs wait in Redis; None: it can't be reached, or none is set."""
    try:
        return len(TurnQueue(settings.redis_url).waiting()) if settings.redis_url else None
    except QueueUnavailable:
        return None


@click.command()
@as_json
def stats(as_json: bool) -> None:
    """What runs, what waits, since when, and which worker runs what.

    Reads the database and Redis. Exit status: 0, or 3 if the database can't be reached.
    """
    with opened() as settings:
        now = census.take(settings.sweep_s)
        holders = inspection.workers()
        jobs = _jobs(settings)
    if as_json:
        dump(asdict(now) | {"jobs": jobs, "workers": [asdict(each) for each in holders]})
        return
    pairs(
        [
            ("running", now.running),
            ("queued", f"{now.queued}, the oldest for {now.oldest_queued_s:.0f} s" if now.queued else "0"),
            ("waiting for an earlier session of their conversation", now.waiting),
            ("orphaned", now.orphaned),
            ("jobs in Redis", "it can't be reached" if jobs is None else jobs),
            ("last sweep", "never" if now.sweep_age_s is None else f"{now.sweep_age_s:.0f} s ago"),
        ]
    )
    for each in holders:
        of_it = f"dead: {each.cause}" if each.cause else "alive"
        click.echo(plain(f"worker {each.name}: {of_it}, {len(each.sessions)} sessions"))
        for session_id in each.sessions[:_LISTED]:
            click.echo(f"    {plain(session_id)}")
        if len(each.sessions) > _LISTED:
            click.echo(f"    … and {len(each.sessions) - _LISTED} more")


@click.command()
@click.argument("session_id")
@as_json
def show(session_id: str, as_json: bool) -> None:
    """How a session went: its attempts and worker, times, error, and what the model's provider said.

    Exit status: 0, 1 there is no such session, 3 the database can't be reached.
    """
    with opened():
        found = inspection.look(session_id)
    if as_json:
        dump(found)
        return
    pairs((name, value) for name, value in found.items() if name != "attempts")
    for each in found["attempts"]:
        why = f", after: {each['cause']}" if each["cause"] else ""
        span = f"{each['claimed_at'] or each['began_at']} to {each['last_event_at']}, {each['events']} events"
        click.echo(plain(f"attempt {each['attempt']} on {each['worker'] or 'a worker'}: {span}{why}"))


@click.command()
@click.argument("session_id")
@click.option("--force", is_flag=True, help="Also if a worker holds it: it is taken away from there.")
def requeue(session_id: str, force: bool) -> None:
    """Have some worker look at a session that waits, now and not when the sweeper does.

    Exit status: 0, 1 it has ended or a worker holds it, 3 the database can't be reached.
    """
    with opened() as settings:
        if not settings.redis_url:
            raise click.ClickException("set REDIS_URL")
        name, attempt = inspection.free(session_id, by_force=force)
        audit.record("session requeued", session_id=name, force=force)
        Doorbell(Heads(open_redis(settings.redis_url)), TurnQueue(settings.redis_url)).ring(name, attempt)
    click.echo(f"{plain(name)}: rung")
