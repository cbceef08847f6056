"""No log holds a token, a key or a secret: no line that processes of the tests print, and no record of this one."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from app.access import keys
from app.observability.logs import Formatter

#: Macaroons and JSON Web Tokens, whoever made them.
_TOKEN = re.compile(r"\bMDA[\w-]{60,}|\beyJ[\w-]{10,}\.[\w-]+\.[\w-]*")
_SECRET_NAME = re.compile(r"SECRET$|KEY$|TOKEN$|PASSWORD$|BEARER$")
#: Shorter ones may stand anywhere.
_SHORTEST = 8


class Leaks:
    """Notes what should not have been logged, and during which test."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._secrets: set[str] = set()
        self._formatter = Formatter()

    def know(self, secrets: Iterable[str]) -> None:
        """Look for these from now on, in this process's own log."""
        self._secrets |= {secret for secret in secrets if len(secret) >= _SHORTEST}

    def look(self, line: str, secrets: Iterable[str], where: str) -> None:
        token = _TOKEN.search(line)
        for leaked in [*([token[0]] if token else []), *(secret for secret in secrets if secret in line)]:
            test = os.environ.get("PYTEST_CURRENT_TEST", "?")
            self.found.append(f"{where}: {leaked[:4]}… in {line.replace(leaked, '…')[:300]!r}, at {test}")

    def look_at(self, record: logging.LogRecord) -> None:
        self.look(self._formatter.format(record), self._secrets, record.name)

    def watch(self) -> None:
        """Look at every record that this process makes, for every secret that it signs or verifies with."""
        made, parsed = logging.Logger.makeRecord, keys.parse

        def make(logger: logging.Logger, *arguments: Any, **named: Any) -> logging.LogRecord:
            record = made(logger, *arguments, **named)
            self.look_at(record)
            return record

        def parse(setting: str) -> keys.Keys:
            found = parsed(setting)
            self.know(found.by_id.values())
            return found

        logging.Logger.makeRecord = make  # type: ignore[method-assign]
        keys.parse = parse  # type: ignore[assignment]


def secrets_of(environment: Mapping[str, str]) -> set[str]:
    """What a process with this *environment* must not print."""
    found = {value for name, value in environment.items() if _SECRET_NAME.search(name)}
    for name, value in environment.items():
        if name.endswith("_URL") and "@" in value:
            found.add(unquote(urlsplit(value).password or ""))
    named = {part.partition(":")[2] or part for value in found for part in value.split(",")}
    return {secret.strip() for secret in found | named if len(secret.strip()) >= _SHORTEST}


leaks = Leaks()
