"""The layers of the code stay apart: who may import whom, as `app/__init__.py` says."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.broker import queue
from tests.servers import ROOT

#: What keeps rows; only these speak to the database through peewee.
STORES = {
    "app.accounts", "app.history.entries", "app.history.queries", "app.sessions.claims", "app.sessions.removal",
    "app.conversations.queries", "app.conversations", "app.db", "app.db.errors", "app.events.log", "app.db.leases",
    "app.db.paging", "app.conversations.messages", "app.conversations.search", "app.db.models", "app.sessions.commit",
    "app.history.retention",
    "app.db.schema", "app.sessions.queries", "app.events.steps", "app.sessions",
}  # fmt: skip
ORCHESTRATORS = {
    "worker.orchestrator", "worker.orchestrators", "worker.callable_orchestrator", "worker.names", "worker.engine",
    "worker.demo_model", "worker.tools", "worker.calculator", "worker.providers", "worker.progress",
    "worker.model_failures", "worker.model_transport", "worker.recorded_toolset", "worker.sse_merge",
}  # fmt: skip


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for folder in ("app", "worker") for path in sorted((ROOT / folder).rglob("*.py"))}


def _absolute(module: str, node: ast.ImportFrom) -> str:
    """What a relative import means."""
    if not node.level:
        return node.module or ""
    package = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
    base = package[: len(package) - (node.level - 1)]
    return ".".join([*base, *([node.module] if node.module else [])])


def imports(module: str) -> Iterator[str]:
    """Dotted names that *module* imports anywhere: also inside functions and for types only."""
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(module, node)
            yield source
            # `from . import database` imports a module as well.
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _importers(*packages: str) -> set[str]:
    """Modules of ours that import one of *packages* or what is below them."""
    return {
        module
        for module in MODULES
        if any(name == package or name.startswith(f"{package}.") for name in imports(module) for package in packages)
    }


def _below(package: str) -> set[str]:
    return {module for module in MODULES if module == package or module.startswith(f"{package}.")}


def test_the_walk_sees_every_form_of_import() -> None:
    assert "app.db" in set(imports("app.sessions.lifecycle"))  # from . import database
    assert "app.errors" in set(imports("app.api.problems"))  # from ..errors import …
    assert "worker.engine" in set(imports("worker.orchestrators"))  # inside a function
    assert "app.sessions" in set(imports("worker.run_session"))  # from app import sessions


def test_app_never_imports_worker() -> None:
    assert _importers("worker") & _below("app") == set()


def test_worker_never_imports_the_http_edge() -> None:
    assert _importers("app.api") & _below("worker") == set()


def test_only_the_http_edge_imports_flask() -> None:
    assert _importers("flask", "apiflask", "werkzeug") <= _below("app.api")


def test_only_the_web_process_imports_the_http_edge() -> None:
    assert _importers("app.api") - _below("app.api") <= {"app.wsgi", "app.gunicorn_worker"}


def test_only_the_queue_and_the_worker_at_it_import_rq() -> None:
    assert _importers("rq") <= {"app.broker.queue", "worker.session_worker", "worker.bookkeeper"}


def test_only_the_stores_import_the_database_library() -> None:
    assert _importers("peewee", "playhouse", "pymysql", "sqlite3") <= STORES


def test_routes_reach_rows_only_through_the_domain() -> None:
    assert _importers("app.db.models") & _below("app.api") == set()


@pytest.mark.parametrize("module", sorted(ORCHESTRATORS & MODULES.keys()))
def test_an_orchestrator_knows_no_database_queue_or_http_edge(module: str) -> None:
    forbidden = (
        "flask", "apiflask", "rq", "redis", "peewee", "playhouse", "pymysql", "app.api", "app.broker.embedded",
        "app.db", "app.db.models", "app.sessions", "app.events.log", "app.sessions.commit", "app.conversations",
        "app.broker.heads", "app.sessions.doorbell", "app.broker.queue", "worker.event_writer", "worker.recorder",
        "worker.runtime",
    )  # fmt: skip

    known = [name for name in imports(module) if any(name == each or name.startswith(f"{each}.") for each in forbidden)]

    assert known == []


def _environment_readers() -> Iterator[str]:
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            attribute = isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
            from_os = (
                isinstance(node, ast.ImportFrom)
                and node.module == "os"
                and any(alias.name in ("environ", "environb", "getenv") for alias in node.names)
            )
            if (attribute and isinstance(node.value, ast.Name) and node.value.id == "os") or from_os:
                yield module


def test_only_the_settings_read_the_environment() -> None:
    # Development starts the other processes and hands them its environment.
    assert set(_environment_readers()) <= {"app.settings", "app.dev"}


def test_every_module_says_what_it_is_for() -> None:
    silent = [name for name, path in MODULES.items() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]

    assert silent == []


def test_the_job_that_is_queued_by_name_exists() -> None:
    module, _, function = queue.JOB_FUNCTION.rpartition(".")

    assert callable(getattr(importlib.import_module(module), function))
