"""The command line: `backchat …`, or `python -m app.cli …`.

`people` and `mcp` ask a server over HTTP; `operate`, `doctor`, `access`, `account`, `owner` and `database` work on the
deployment's own database and Redis, as its settings name them.
"""

from __future__ import annotations

import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from ..api_client import Server
from ..errors import BackchatError
from ..observability import logs
from ..plain_text import plain
from ..settings import Settings, read_env_file
from . import access, account, database, doctor, mcp, operate, owner, people


class _Commands(click.Group):
    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        # Before the options are looked at: their variables may stand in the file as well.
        try:
            read_env_file()
        except BackchatError as error:
            raise click.ClickException(error.detail) from error
        return super().make_context(*arguments, **extra)


def _version() -> str:
    """Of the installed package, else of the project that this file stands in."""
    with suppress(PackageNotFoundError):
        return version("backchat")
    with suppress(OSError):
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
        return str(project["version"])
    return "unknown"


@click.group(cls=_Commands, context_settings={"auto_envvar_prefix": "BACKCHAT", "help_option_names": ["-h", "--help"]})
@click.option("--url", default=None, help="The server; default: HOST and PORT of the settings. Or BACKCHAT_URL.")
@click.option("--token", "bearer", default="", help="Bearer token. Or BACKCHAT_BEARER.")
@click.version_option(_version(), prog_name="backchat")
@click.pass_context
def main(context: click.Context, url: str | None, bearer: str) -> None:
    """Backchat: chat runs that live on the server.

    Exit status: 0 done, 1 the session ended in an error or was cancelled, or a check found a fault, 2 the command is
    not right, 3 the server, the database or Redis can't be reached or refuses, 130 the session was left running.
    """
    # Before the settings are read: what they warn of has to be seen.
    logs.configure("WARNING")
    try:
        settings = Settings.from_environment()
    except BackchatError as error:
        raise click.ClickException(error.detail) from error
    context.obj = Server(url or settings.local_url, bearer, on_retry=lambda line: click.echo(plain(line), err=True))


for command in (
    people.ask,
    people.chat,
    people.attach,
    people.sessions,
    people.conversations,
    people.search,
    people.agents,
    people.cancel,
    people.delete,
    mcp.mcp,
    operate.stats,
    operate.show,
    operate.requeue,
    doctor.doctor,
    database.migrate,
    access.token,
    access.revoke,
    owner.owner,
    account.account,
):
    main.add_command(command)
