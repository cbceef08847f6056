"""The watch over the logs of all tests sees what it is there for."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from app import access
from tests import json_web_tokens as issuer
from tests import servers
from tests.leaks import Leaks, secrets_of

SECRET = "main:0123456789abcdef0123456789abcdef"
KEY = "0123456789abcdef0123456789abcdef"


def record(message: str, *arguments: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("app.somewhere", logging.INFO, "file.py", 1, message, arguments, None)
    vars(made).update(fields)
    return made


@pytest.mark.parametrize("leaked", [access.issue(SECRET, "anna"), issuer.token(), KEY], ids=["macaroon", "JWT", "key"])
def test_a_record_that_holds_one_is_noticed_wherever_it_stands(leaked: str) -> None:
    leaks = Leaks()
    leaks.know([KEY])
    try:
        raise ValueError(f"refused {leaked}")
    except ValueError:
        failed = record("failed")
        failed.exc_info = sys.exc_info()

    for each in (record(f"got {leaked}"), record("got %s", leaked), record("got", by=leaked), failed):
        leaks.look_at(each)

    assert len(leaks.found) == 4
    assert leaked not in str(leaks.found)
    assert "test_a_record_that_holds_one" in leaks.found[0]


def test_a_record_without_one_is_none() -> None:
    leaks = Leaks()
    leaks.know([KEY, "short"])

    leaks.look_at(record("a short secret is reported by its id", key="main", token="the-id-of-a-token"))

    assert leaks.found == []


def test_this_process_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers.leaks, "found", [])
    access.issue(SECRET, "anna")

    logging.getLogger("app.somewhere").warning("signed", extra={"by": KEY})

    assert len(servers.leaks.found) == 1


def test_what_a_process_prints_is_watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(servers.leaks, "found", [])
    program = "import os; print('fine'); print('I have', os.environ['CHAT_SECRET'][5:])"

    process = servers.Process.python("-c", program, log=tmp_path / "log", environment={"CHAT_SECRET": SECRET})
    with process:
        process.wait()

    assert [each.partition(":")[0] for each in servers.leaks.found] == ["log"]


def test_the_secrets_of_an_environment_are_its_keys_and_passwords() -> None:
    environment = {
        "CHAT_SECRET": "new:first-secret, old:second-secret",
        "OPENAI_API_KEY": "key-of-a-provider",
        "DATABASE_URL": "mysql://user:pass%40word@host/name",
        "REDIS_URL": "redis://host/0",
        "PORT": "8000",
    }

    found = secrets_of(environment)

    assert found >= {"first-secret", "second-secret", "key-of-a-provider", "pass@word"}
    assert not found & {"8000", "redis://host/0"}
