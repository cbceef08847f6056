"""The command line's part for operators: accounts and their ledgers."""

from __future__ import annotations

import json

import click

from .. import accounts, audit
from ..access.principal import is_owner
from ..accounts import Account, Unit, ledger
from ..plain_text import plain
from ..sessions import spending
from .database import opened


def _owner(_: click.Context, __: click.Parameter, name: str) -> str:
    if not is_owner(name):
        raise click.BadParameter("no owner can be called this")
    return name


def _account(owner: str) -> Account:
    account = accounts.find(owner)
    if account is None:
        raise click.ClickException("this owner has no account; `account credit` opens one")
    return account


_of_owner = click.argument("owner", callback=_owner)


@click.group()
def account() -> None:
    """Balances, limits and ledgers of owners, in the database that DATABASE_URL names."""


@account.command()
@_of_owner
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def show(owner: str, as_json: bool) -> None:
    """Show the balance of OWNER, what is left of it, and what runs."""
    with opened():
        found = _account(owner)
        funds = spending.funds(found.id, owner)
        running, waiting = spending.load(owner)
    shown = {
        "owner": owner,
        "unit": found.unit,
        "balance": found.balance,
        "left": None if funds is None else funds.left,
        "running": running,
        "waiting": waiting,
        "maxRunning": found.max_running,
        "maxSessions": found.max_sessions,
    }
    click.echo(json.dumps(shown) if as_json else "\n".join(plain(f"{name}: {value}") for name, value in shown.items()))


@account.command()
@_of_owner
@click.argument("amount", type=int)
@click.option("--unit", type=click.Choice(["tokens", "money"]), default=None, help="Opens an account if there is none.")
@click.option("--reference", default="", help="What it stands for, such as a payment: it is added once.")
@click.option("--note", default="")
@click.option(
    "--adjust", is_flag=True, help="A correction instead of a credit; AMOUNT may be less than 0 (after `--`)."
)
def credit(owner: str, amount: int, unit: Unit | None, reference: str, note: str, adjust: bool) -> None:
    """Credit OWNER with AMOUNT tokens, or micro-units of money."""
    if amount <= 0 and not adjust:
        raise click.UsageError("a credit is more than 0; corrections are made with --adjust")
    kind: ledger.Kind = "adjust" if adjust else "credit"
    with opened():
        ledger.add(owner, kind, amount, unit=unit, reference=reference, note=note)
        audit.record("account credited", owner=owner, kind=kind, amount=amount, reference=reference)
        click.echo(f"balance: {_account(owner).balance}")


@account.command()
@_of_owner
@click.option("--running", type=click.IntRange(0), default=None, help="Sessions that run at once; 0: any number.")
@click.option("--sessions", type=click.IntRange(0), default=None, help="Sessions that run and wait; 0: any number.")
@click.option("--default", "as_set", is_flag=True, help="Both as the settings say.")
def limit(owner: str, running: int | None, sessions: int | None, as_set: bool) -> None:
    """Set the limits of OWNER's account."""
    if as_set == (running is not None or sessions is not None):
        raise click.UsageError("name --running, --sessions or both; or --default")
    with opened():
        found = _account(owner)
        if not as_set:
            running = found.max_running if running is None else running
            sessions = found.max_sessions if sessions is None else sessions
        ledger.limit(found.id, running=running, sessions=sessions)
        audit.record("account limited", owner=owner, running=running, sessions=sessions)
    click.echo("limited")


@account.command("ledger")
@_of_owner
@click.option("--limit", "most", type=click.IntRange(1, 1000), default=50)
@click.option("--cursor", default=None, help="Where the page before ended.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
def show_ledger(owner: str, most: int, cursor: str | None, as_json: bool) -> None:
    """List what OWNER was credited and debited, newest first."""
    with opened():
        page = ledger.page(_account(owner).id, limit=most, cursor=cursor)
    for row in page.rows:
        said = row["sessionId"] or " ".join(filter(None, (row["reference"], row["note"])))
        line = f"{row['createdAt']}  {row['kind']:<6}  {row['amount']:>15}  {said}"
        click.echo(json.dumps(row) if as_json else plain(line))
    if page.next_cursor is not None:
        click.echo(f"more: --cursor {page.next_cursor}", err=True)
