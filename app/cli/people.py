"""Commands for people: they ask a server over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from ..api_client import Server
from ..plain_text import plain
from .following import follow, server_errors
from .output import as_json, dump, table

#: Messages that `chat -c` shows of what was said before.
_SHOWN_BEFORE = 6

_go_on = click.option("-c", "--continue", "go_on", is_flag=True, help="Go on in the conversation that was used last.")
_conversation = click.option("--conversation", default=None, metavar="UUID", help="Go on with it, or start it.")
_agent = click.option("--agent", type=int, default=None, help="Id of the agent; default: 1.")
_model = click.option("--model", default=None, help="In place of the agent's.")
_limit = click.option("--limit", type=click.IntRange(1, 100), default=20)
_as_it_comes = click.option(
    "--plain", "as_it_comes", is_flag=True, help="On a terminal: text as it comes, no Markdown."
)


@click.command()
@click.argument("message")
@_go_on
@_conversation
@_agent
@_model
@_as_it_comes
@as_json
@click.pass_obj
def ask(
    server: Server,
    message: str,
    go_on: bool,
    conversation: str | None,
    agent: int | None,
    model: str | None,
    as_it_comes: bool,
    as_json: bool,
) -> None:
    """Start a session with MESSAGE and show its answer; `-` reads it from standard input.

    In a pipe the answer comes when it is whole: what a worker that died had said does not stand in it. Ctrl-C asks
    whether to cancel the session or to leave it running.
    """
    if message == "-":
        try:
            message = sys.stdin.buffer.read().decode().removesuffix("\n")
        except UnicodeDecodeError as error:
            raise click.UsageError("what stands on standard input is not UTF-8") from error
    with server_errors():
        if go_on:
            conversation = _last(server)
        started = server.start(message, conversationId=conversation, agentId=agent, model=model)
        if as_json:
            dump(started)
        sys.exit(follow(server, started["sessionId"], as_json=as_json, as_it_comes=as_it_comes))


def _last(server: Server) -> str:
    found = server.conversations(limit=1)["conversations"]
    if not found:
        raise click.UsageError("there is no conversation to go on with")
    return str(found[0]["conversationId"])


@click.command()
@_go_on
@_conversation
@_agent
@_model
@_as_it_comes
@click.pass_obj
def chat(
    server: Server, go_on: bool, conversation: str | None, agent: int | None, model: str | None, as_it_comes: bool
) -> None:
    """Talk: each line is a message, all of one conversation. Ctrl-D ends it.

    In a pipe each line of standard input is a message. Exit status: of the last session.
    """
    status = 0
    with server_errors():
        if go_on:
            conversation = _last(server)
        if conversation is not None and sys.stdin.isatty():
            _show_before(server, conversation)
        for message in _lines():
            started = server.start(message, conversationId=conversation, agentId=agent, model=model)
            conversation = started["conversationId"]
            status = follow(server, started["sessionId"], as_it_comes=as_it_comes)
    if conversation is not None and sys.stdin.isatty():
        program = click.get_current_context().find_root().command_path
        click.echo(f"go on: {program} chat --conversation {plain(conversation)}", err=True)
    sys.exit(status)


def _lines() -> Iterator[str]:
    if sys.stdin.isatty():
        # It brings the editing of lines, and those of before with the arrow keys.
        import readline  # noqa: F401
    while True:
        try:
            line = input("> ") if sys.stdin.isatty() else sys.stdin.readline()
        except (EOFError, KeyboardInterrupt):
            click.echo(err=True)
            return
        if not line and not sys.stdin.isatty():
            return
        if line.strip():
            yield line.strip()


def _show_before(server: Server, conversation: str) -> None:
    found = server.messages(conversation, limit=_SHOWN_BEFORE, order="desc")["messages"]
    for message in reversed(found):
        mark = "> " if message["role"] == "user" else ""
        click.echo(f"{mark}{plain(message['content'])}\n", err=True)


@click.command()
@click.argument("session_id")
@click.option("--after", type=click.IntRange(0), default=0, help="Only events above this seq.")
@_as_it_comes
@as_json
@click.pass_obj
def attach(server: Server, session_id: str, after: int, as_it_comes: bool, as_json: bool) -> None:
    """Show a session from its beginning, and go on with it while it runs."""
    with server_errors():
        sys.exit(follow(server, session_id, after=after, as_json=as_json, as_it_comes=as_it_comes))


@click.command()
@_limit
@click.option("--status", type=click.Choice(["running", "done", "error"]), default=None)
@as_json
@click.pass_obj
def sessions(server: Server, limit: int, status: str | None, as_json: bool) -> None:
    """List recent sessions, newest first."""
    with server_errors():
        rows = server.sessions(limit=limit, status=status)["sessions"]
    if as_json:
        return dump(*rows)
    return table(
        ["session", "status", "created UTC", "tokens", "message"],
        [
            [each["sessionId"], each["errorCode"] or each["status"], _at(each["createdAt"]), each["totalTokens"],
             each["userMessage"]]
            for each in rows
        ],
        colour=1,
    )  # fmt: skip


@click.command()
@_limit
@as_json
@click.pass_obj
def conversations(server: Server, limit: int, as_json: bool) -> None:
    """List conversations, the one that was used last first."""
    with server_errors():
        rows = server.conversations(limit=limit)["conversations"]
    if as_json:
        return dump(*rows)
    return table(
        ["conversation", "changed UTC", "messages", "title"],
        [[each["conversationId"], _at(each["updatedAt"]), each["messageCount"], each["title"]] for each in rows],
    )


@click.command()
@click.argument("words", nargs=-1, required=True)
@_limit
@as_json
@click.pass_obj
def search(server: Server, words: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Find conversations in which all WORDS were said; the last may be the beginning of one."""
    with server_errors():
        found = server.search(" ".join(words), limit=limit)
    rows = found["results"]
    if as_json:
        return dump(*rows)
    return table(
        ["conversation", "title", "what was said"],
        [[each["conversationId"], each["title"][:40], each.get("snippet") or ""] for each in rows],
    )


@click.command()
@as_json
@click.pass_obj
def agents(server: Server, as_json: bool) -> None:
    """List the agents."""
    with server_errors():
        rows = server.agents()["agents"]
    if as_json:
        return dump(*rows)
    return table(
        ["id", "name", "model", "description"],
        [[each["id"], each["name"], each["model"], each["description"]] for each in rows],
    )


@click.command()
@click.argument("session_id")
@as_json
@click.pass_obj
def cancel(server: Server, session_id: str, as_json: bool) -> None:
    """End a session; its partial answer is kept."""
    with server_errors():
        row = server.cancel(session_id)
    if as_json:
        return dump(row)
    return click.echo(plain(f"{row['sessionId']}: {row['errorCode'] or row['status']}"))


@click.command()
@click.argument("name", metavar="ID")
@click.option("--conversation", "whole", is_flag=True, help="ID is a conversation's: delete all of it.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.pass_obj
def delete(server: Server, name: str, whole: bool, yes: bool) -> None:
    """Delete a session with its messages, or a conversation."""
    if not yes:
        click.confirm(f"Delete {'the conversation' if whole else 'the session'} {plain(name)}?", abort=True, err=True)
    with server_errors():
        (server.delete_conversation if whole else server.delete)(name)
    click.echo(f"{plain(name)}: deleted")


def _at(moment: str) -> str:
    return str(moment)[5:16].replace("T", " ")
