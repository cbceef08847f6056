"""Commands of the command line in the test's own process, on its database and Redis."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import CliRunner, Result

from app import db
from app.cli import main
from tests.conftest import close_all

Run = Callable[..., Result]


def runner(**settings: str) -> Run:
    """Runs a command with these settings; what it opened is closed, and the test's database bound again."""
    bound = db.database.obj

    def run(*arguments: str, **changes: str) -> Result:
        result = CliRunner().invoke(main, arguments, env={"ENV_FILE": "/dev/null"} | settings | changes)
        if db.database.obj is not bound:
            close_all(db.database.obj)
            db.database.initialize(bound)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run
