"""Every process reads `.env` in the folder where it is started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import Process, free_port

WEB = ("-m", "gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app")
COMMANDS = [WEB, ("-m", "worker"), ("-m", "app.cli", "sessions"), ("-m", "app.dev")]

MakeProcess = Callable[..., Process]


def run(make_process: MakeProcess, folder: Path, command: tuple[str, ...], **environment: str) -> Process:
    """The command, ended, in *folder*; tests have no such file but where they say so."""
    return make_process(*command, cwd=folder, ENV_FILE="", **environment)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (WEB, "web: the database can't be reached"),
        (("-m", "worker"), "worker: the database can't be reached"),
        (("-m", "app.cli", "migrate"), "the database can't be reached"),
        # The options of the command line have variables of their own.
        (("-m", "app.cli", "sessions"), "Invalid value for '--limit': 'many'"),
        (("-m", "app.dev"), "the Redis of REDIS_URL can't be used"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_what_it_says_is_used(make_process: MakeProcess, tmp_path: Path, command: tuple[str, ...], told: str) -> None:
    (tmp_path / ".env").write_text(
        f"PORT={free_port()}\nREDIS_URL=redis://127.0.0.1:1/0\n"
        "DATABASE_URL=mysql://root@127.0.0.1:1/none\nBACKCHAT_SESSIONS_LIMIT=many\n"
    )

    process = run(make_process, tmp_path, command)

    assert process.wait() != 0
    assert told in process.output
    assert "Traceback" not in process.output


def test_what_a_tool_starts_does_not_get_the_secret(make_process: MakeProcess, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CHAT_SECRET=s3cret\nCHAT_MODEL=demo\n")
    # Without a broker the worker ends at once, and has read its settings.
    program = (
        "import subprocess, sys, worker.__main__\ntry: worker.__main__.main()\nexcept SystemExit: pass\n"
        "subprocess.run([sys.executable, '-c', 'import os; print(sorted(os.environ))'])"
    )

    process = run(make_process, tmp_path, ("-c", program))

    assert process.wait() == 0
    assert "'CHAT_MODEL'" in process.output
    assert "CHAT_SECRET" not in process.output


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1])
def test_a_broken_line_is_told_with_its_number(
    make_process: MakeProcess, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / ".env").write_text(f"PORT={free_port()}\n\nCHAT_SECRET s3cret\n")

    process = run(make_process, tmp_path, command)

    assert process.wait() != 0
    assert ".env, line 3: write it as NAME=value" in process.output
    assert "Traceback" not in process.output
    assert "s3cret" not in process.output
