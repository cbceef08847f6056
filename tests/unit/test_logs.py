from __future__ import annotations

import json
import logging
import string
import sys

import pytest

from app.observability.logs import Formatter, JsonFormatter, configuration


def record(message: str, *arguments: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("worker.process.sweeper", logging.INFO, "file.py", 1, message, arguments, None)
    made.created, made.msecs = 1769860800.123, 123.0
    vars(made).update(fields)
    return made


def test_a_record_is_one_line_with_its_fields() -> None:
    line = Formatter().format(record("session rung", session_id="a-1", attempt=2))

    assert line == "2026-01-31T12:00:00.123Z INFO worker.process.sweeper session rung session_id=a-1 attempt=2"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two words", '"two words"'),
        ("", '""'),
        ("a=b", '"a=b"'),
        ('"', '"\\""'),
        ("line\nline", '"line\\nline"'),
        (None, "None"),
    ],
)
def test_a_value_that_would_blur_the_line_is_quoted(value: object, shown: str) -> None:
    assert Formatter().format(record("message", field=value)).endswith(f" message field={shown}")


def test_a_message_with_line_breaks_stays_one_line() -> None:
    assert "\n" not in Formatter().format(record("one\ntwo\r\nthree"))


def test_a_terminal_obeys_nothing_that_a_record_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    escapes = "\x1b]0;title\x07\x1b[2J\x9b2J\r\u202e\x7f\x00"
    made = record(f"said {escapes}", field=escapes)
    try:
        raise ValueError(escapes)
    except ValueError:
        made.exc_info = sys.exc_info()

    for is_terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda shown=is_terminal: shown)
        line = Formatter().format(made)

        assert "said" in line
        assert not set(line.replace("\n", "")) & set(escapes) - set(string.printable[:95])


def test_a_traceback_is_a_field_of_its_line() -> None:
    made = record("job failed")
    try:
        raise ValueError("broken")
    except ValueError:
        made.exc_info = sys.exc_info()

    line = Formatter().format(made)

    assert "\n" not in line
    traceback = json.loads(line.partition("traceback=")[2])
    assert traceback.startswith("Traceback")
    assert traceback.endswith("ValueError: broken")


def test_what_would_flood_the_log_is_quiet() -> None:
    loggers = configuration("debug")["loggers"]

    assert loggers["gunicorn.access"]["level"] == loggers["rq.worker"]["level"] == "WARNING"
    assert configuration("debug")["root"]["level"] == "DEBUG"


def test_a_level_that_there_is_not_means_info() -> None:
    assert configuration("chatty")["root"]["level"] == "INFO"


def test_a_record_is_one_json_object_with_its_fields() -> None:
    made = record("session\nrung", session_id="a-1", attempt=2, odd=object())
    try:
        raise ValueError("broken")
    except ValueError:
        made.exc_info = sys.exc_info()

    line = JsonFormatter().format(made)

    assert "\n" not in line
    told = json.loads(line)
    assert told.pop("traceback").endswith("ValueError: broken")
    assert told.pop("odd").startswith("<object object")
    assert told == {
        "time": "2026-01-31T12:00:00.123000+00:00",
        "level": "INFO",
        "logger": "worker.process.sweeper",
        "message": "session\nrung",
        "session_id": "a-1",
        "attempt": 2,
    }


def test_the_format_of_lines_is_a_setting() -> None:
    def formatter(line: str) -> object:
        return configuration("info", line)["formatters"]["line"]["()"]

    assert [formatter(line) for line in ("text", "json", "xml")] == [Formatter, JsonFormatter, Formatter]
