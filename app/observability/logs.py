"""Logs of all processes: one line for each record, with its fields as `name=value`."""

from __future__ import annotations

import json
import logging
import logging.config
import sys
import time
from typing import Any

from pythonjsonlogger import json as json_logging

from app.plain_text import plain

#: What every record has; the rest are the fields that the caller gave.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class Formatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO worker.process.sweeper session rung session_id=… attempt=2`."""

    converter = time.gmtime  # type: ignore[assignment]

    def format(self, record: logging.LogRecord) -> str:
        """The line. A traceback is one more field; on a terminal it follows as it is."""
        at = f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z"
        parts = [at, record.levelname, record.name, plain(" ".join(record.getMessage().splitlines()))]
        parts += [f"{name}={_value(value)}" for name, value in vars(record).items() if name not in _OWN]
        trace = self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
        if trace and not sys.stderr.isatty():
            parts.append(f"traceback={json.dumps(trace)}")
            trace = ""
        return "\n".join(filter(None, (" ".join(parts), plain(trace))))


def _value(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)


class JsonFormatter(json_logging.JsonFormatter):
    """The same as one JSON object: `time`, `level`, `logger`, `message`, the fields, `traceback`."""

    def __init__(self) -> None:
        renamed = {"levelname": "level", "name": "logger", "exc_info": "traceback"}
        super().__init__("{levelname}{name}{message}", style="{", rename_fields=renamed, timestamp="time")


#: `LOG_FORMAT` → what makes the lines.
FORMATTERS: dict[str, type[logging.Formatter]] = {"text": Formatter, "json": JsonFormatter}


def configuration(level: str, line: str = "text") -> dict[str, Any]:
    """For `logging.config.dictConfig` and gunicorn's `logconfig_dict`; everything goes to stderr.

    Args:
        level: A name of the logging module's, in any case; an unknown one means INFO.
        line: `text` or `json`; any other means `text`.
    """
    plain = {"level": "INFO", "handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": FORMATTERS.get(line, Formatter)}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}},
        "root": {"level": level.upper() if _is_known(level) else "INFO", "handlers": ["stderr"]},
        "loggers": {
            "gunicorn.error": plain,
            # `ACCESS_LOG` has a log of its own.
            "gunicorn.access": plain | {"level": "WARNING"},
            # Two lines for each job, which say less than our own.
            "rq": plain | {"level": "WARNING"},
            "rq.worker": plain | {"level": "WARNING"},
            # A line for each request to a model or an MCP server.
            "httpx": plain | {"level": "WARNING"},
            "httpx2": plain | {"level": "WARNING"},
        },
    }


def configure(level: str, line: str = "text") -> None:
    """Set logging up; an unknown *level* means INFO, an unknown *line* text, with a warning."""
    logging.config.dictConfig(configuration(level, line))
    if not _is_known(level):
        logging.getLogger(__name__).warning("unknown log level, INFO used", extra={"level": level})
    if line not in FORMATTERS:
        logging.getLogger(__name__).warning("unknown log format, text used", extra={"format": line})


def _is_known(level: str) -> bool:
    return level.upper() in logging.getLevelNamesMapping()
