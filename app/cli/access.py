"""The command line's part for operators: issue tokens and revoke them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from .. import access, audit, db
from ..db import schema
from ..errors import BackchatError
from ..settings import Settings


def _secret() -> str:
    secret = Settings.from_environment().chat_secret
    if not secret:
        raise click.ClickException("set CHAT_SECRET first")
    return secret


@click.command()
@click.argument("owner", required=False)
@click.option("--issuer", is_flag=True, help="Without an owner: for a backend that narrows it to the owners it knows.")
@click.option("--days", type=click.IntRange(1, 3650), default=None, help="Days until it expires; default: never.")
@click.option("--can", default=None, metavar="RIGHTS", help="Such as `read,cancel`; default: read,write,cancel.")
@click.option("--session", default=None, metavar="ID", help="Only this session.")
@click.option("--conversation", default=None, metavar="UUID", help="Only this conversation.")
@click.option("--agent", type=click.IntRange(1), default=None, help="Only this agent.")
@click.option("--model", default=None, help="Start sessions with this model only.")
def token(
    owner: str | None,
    issuer: bool,
    days: int | None,
    can: str | None,
    session: str | None,
    conversation: str | None,
    agent: int | None,
    model: str | None,
) -> None:
    """Print a token that speaks for OWNER (needs CHAT_SECRET)."""
    if issuer == (owner is not None):
        raise click.UsageError("name an owner, or --issuer")
    secret = _secret()
    access.report_short(secret)
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    try:
        click.echo(
            access.issue(
                secret,
                owner,
                expires=expires,
                can=None if can is None else can.replace(",", " ").split(),
                session=session,
                conversation=conversation,
                agent=agent,
                model=model,
            )
        )
    except BackchatError as error:
        raise click.ClickException(error.detail) from error


@click.command()
@click.option("--token", "serialized", default=None, help="This token and all that come from it.")
@click.option("--id", "token_id", default=None, help="The token of this id and all that come from it.")
@click.option("--owner", default=None, help="All tokens of this owner that were issued until now.")
def revoke(serialized: str | None, token_id: str | None, owner: str | None) -> None:
    """Revoke tokens; web processes hear of it within seconds."""
    if [serialized, token_id, owner].count(None) != 2:
        raise click.UsageError("name one of --token, --id and --owner")
    secret = _secret()
    try:
        if serialized is not None:
            token_id = access.verify(secret, serialized).token_id
            if token_id is None:
                raise click.ClickException("the token is older than ids; revoke its owner's")
        db.open_database(Settings.from_environment().database_url)
        schema.require_current()
        if owner is not None:
            access.revoke_owner(secret, owner)
            audit.record("tokens of an owner revoked", owner=owner)
        elif token_id is not None:
            access.revoke_token(token_id)
            audit.record("token revoked", token=token_id)
    except BackchatError as error:
        raise click.ClickException(error.detail) from error
    click.echo("revoked")
