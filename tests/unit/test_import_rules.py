"""Who may import whom follows from where a module stands: each folder is a room, and a new module obeys its room."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from app.broker import jobs
from tests.servers import ROOT

#: Entry points at the top of `app`: they join what the rooms offer.
EDGES = {
    "app.check",
    "app.wsgi",
    "app.gunicorn_conf",
    "app.gunicorn_worker",
}
NOUNS = {
    "app.access",
    "app.accounts",
    "app.events",
    "app.event log",
    "app.history",
    "app.conversations",
    "app.sessions",
    "app.owners",
}

#: Room → rooms that it may import from, beside itself. `app` is what stands at the top: settings, errors, agents, …
MAY_IMPORT: dict[str, set[str]] = {
    "app": set(),
    "app.observability": {"app"},
    "app.db": {"app"},
    "app.broker": {"app"},
    "app.access": {"app", "app.db"},
    "app.events": {"app"},
    "app.event log": {"app", "app.db", "app.events"},
    "app.accounts": {"app", "app.db", "app.events"},
    "app.history": {"app", "app.db", "app.events", "app.event log"},
    "app.conversations": {"app", "app.db", "app.access", "app.events", "app.event log", "app.history"},
    "app.sessions": {"app", "app.db", "app.broker", *NOUNS} - {"app.owners"},
    "app.owners": {"app", "app.db", "app.broker", *NOUNS},
    "app.api": {"app", "app.db", "app.broker", *NOUNS},
    "app.dev": {"app", "app.db", "app.broker"},
    "app edge": {"app", "app.db", "app.broker", "app.api", *NOUNS},
    # The protocol, tools, and what finds them: they know no database, queue or HTTP.
    "worker": {"app", "app.events"},
    "worker.engine": {"app", "app.events", "worker"},
    "worker.rq": {"app", "app.broker"},
    "worker.process": {"app", "app.db", "app.broker", "worker", "worker.engine", *NOUNS},
    "worker edge": {"app", "app.db", "worker", "worker.process", "worker.rq"},
}
#: Rooms that any other may import from, but for `app` itself, which they are made of.
FOR_ALL = {"app.observability"}
#: Library → rooms that may import it; of what is not named here anybody may.
LIBRARIES: dict[str, set[str]] = {
    **{name: {"app.api"} for name in ("flask", "apiflask")},
    "werkzeug": {"app.api", "app edge"},
    **{name: {"app.db", *NOUNS} - {"app.events"} for name in ("peewee", "playhouse", "pymysql", "sqlite3")},
    "rq": {"app.broker", "worker.rq"},
    "redis": {"app.broker", "app.api", "app.dev", "worker.rq"},
    "fakeredis": {"app.broker"},
    "gunicorn": {"app edge"},
    "gevent": {"app.api", "app edge"},
    **{name: {"worker", "worker.engine"} for name in ("pydantic_ai", "openai", "fastmcp")},
    "mcp": {"worker", "worker.engine", "app edge"},
    "aiohttp": {"worker.engine"},
}
#: Only these: tables are the nouns' own.
MODEL_READERS = {"app.db", *NOUNS}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {_name(path): path for folder in ("app", "worker") for path in sorted((ROOT / folder).rglob("*.py"))}
SOURCES = {module: path.read_text("utf-8") for module, path in PATHS.items()}


def room_of(module: str) -> str:
    """The room of one of our modules, by its path."""
    if module in EDGES or module.startswith("app.cli"):
        return "app edge"
    if module in ("worker.__main__", "worker.run_session", "worker.nursery"):
        return "worker edge"
    if module.startswith("app.events.") and module not in ("app.events.types", "app.events.fold", "app.events.usage"):
        return "app.event log"
    top, *rest = module.split(".")
    is_package = rest and PATHS.get(f"{top}.{rest[0]}", Path()).name == "__init__.py"
    return f"{top}.{rest[0]}" if is_package else top


def imports(module: str, source: str) -> Iterator[str]:
    """What *module* imports anywhere: our modules by name, else the library. Also inside functions and for types."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            # `from . import database` imports a module as well.
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            while name not in PATHS and "." in name:
                name = name.rpartition(".")[0]
            yield name


def _absolute(module: str, node: ast.ImportFrom) -> str:
    """What a relative import means."""
    if not node.level:
        return node.module or ""
    package = module.split(".") if PATHS[module].name == "__init__.py" else module.split(".")[:-1]
    base = package[: len(package) - (node.level - 1)]
    return ".".join([*base, *([node.module] if node.module else [])])


def violations(sources: Mapping[str, str]) -> list[str]:
    """Every import that its room does not allow, as `importer -> imported`."""
    found = []
    for module, source in sources.items():
        room = room_of(module)
        for name in imports(module, source):
            if name in PATHS:
                other = room_of(name)
                allowed = other == room or other in MAY_IMPORT[room] or (room != "app" and other in FOR_ALL)
                if name == "app.db.models" and room not in MODEL_READERS:
                    allowed = False
            else:
                allowed = room in LIBRARIES.get(name.partition(".")[0], {room})
            if not allowed:
                found.append(f"{module} -> {name}")
    return found


def test_every_import_is_one_that_its_room_allows() -> None:
    assert violations(SOURCES) == []


#: One for each pair of rooms that must stay apart, in modules that exist and from wherever an import may stand.
PLANTED = [
    ("app.settings", "from app import db"),
    ("app.agents", "from app.sessions import claims"),
    ("app.agents", "from app.observability import metrics"),
    ("app.observability.metrics", "from app import db"),
    ("app.db.connection", "from app.sessions import NewSession"),
    ("app.db.paging", "from app.events import log"),
    ("app.broker.heads", "from app.db import models"),
    ("app.access.tokens", "from app.api import access"),
    ("app.accounts.ledger", "from app.sessions import spending"),
    ("app.events.types", "from . import log"),
    ("app.events.types", "import peewee"),
    ("app.events.log", "from app.conversations import threads"),
    ("app.history.entries", "from app.sessions import outcomes"),
    ("app.conversations.messages", "from app.sessions import lifecycle"),
    ("app.conversations.search", "import redis"),
    ("app.sessions.claims", "from flask import request"),
    ("app.sessions.doorbell", "from worker.process import WorkerProcess"),
    ("app.api.conversations", "from app.db.models import Session"),
    ("app.api.health", "import rq"),
    ("app.cli", "import worker.tools"),
    ("worker.tools", "from app.conversations import messages"),
    ("worker.orchestrator", "from app.broker import queue"),
    ("worker.engine.turn", "from app import db, sessions"),
    ("worker.engine.providers", "from worker.process import run"),
    ("worker.rq.worker", "from app.db import leases"),
    ("worker.rq.registries", "from ..process import claimer"),
    ("worker.process.run", "from app.api.polling import hub"),
    ("worker.process.sweeper", "from app.db.models import Session"),
    ("worker.__main__", "from rq import Worker"),
]


@pytest.mark.parametrize(("module", "line"), PLANTED, ids=[f"{module}: {line}" for module, line in PLANTED])
@pytest.mark.parametrize("inside", ["", "def planted() -> None:\n    "], ids=["at the top", "in a function"])
def test_a_planted_import_is_found(module: str, line: str, inside: str) -> None:
    planted = f"{SOURCES[module]}\n{inside}{line}\n"

    assert violations({module: planted}) != []


def test_a_new_module_obeys_the_room_that_it_stands_in() -> None:
    assert room_of("app.sessions.something_new") == "app.sessions"
    assert room_of("worker.engine.something_new") == "worker.engine"
    assert room_of("app.something_new") == "app"


def test_modules_do_not_import_in_circles() -> None:
    at_import = {module: set(_imported_at_once(module)) - {module} for module in SOURCES}

    assert list(_circles(at_import)) == []


def _imported_at_once(module: str) -> Iterator[str]:
    """Our modules that are imported while *module* is: not inside functions, not for types alone."""
    tree = ast.parse(SOURCES[module])
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    yield from (name for name in imports(module, ast.unparse(ast.Module(top, []))) if name in PATHS)


def _circles(graph: Mapping[str, set[str]]) -> Iterator[list[str]]:
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> Iterator[list[str]]:
        if module in path:
            yield [*path[path.index(module) :], module]
            return
        if module in done:
            return
        for other in sorted(graph[module]):
            yield from walk(other, [*path, module])
        done.add(module)

    for module in sorted(graph):
        yield from walk(module, [])


def _environment_readers() -> Iterator[str]:
    for module, source in SOURCES.items():
        for node in ast.walk(ast.parse(source)):
            attribute = isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
            from_os = (
                isinstance(node, ast.ImportFrom)
                and node.module == "os"
                and any(alias.name in ("environ", "environb", "getenv") for alias in node.names)
            )
            if (attribute and isinstance(node.value, ast.Name) and node.value.id == "os") or from_os:
                yield module


def test_only_the_settings_read_the_environment() -> None:
    assert set(_environment_readers()) == {"app.settings"}


def test_every_module_says_what_it_is_for() -> None:
    silent = [name for name, source in SOURCES.items() if not ast.get_docstring(ast.parse(source))]

    assert silent == []


def test_no_module_has_more_than_three_hundred_lines() -> None:
    long = {name: lines for name, source in SOURCES.items() if (lines := source.count("\n")) > 300}

    assert long == {}


def test_the_job_that_is_queued_by_name_exists() -> None:
    module, _, function = jobs.JOB_FUNCTION.rpartition(".")

    assert callable(getattr(importlib.import_module(module), function))
