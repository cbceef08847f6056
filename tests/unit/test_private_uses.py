"""Private parts of libraries that the code uses: each is named here and exists, and its library is pinned."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from types import CodeType
from typing import Any

import pytest

from tests.servers import ROOT
from tests.unit.test_import_rules import SOURCES

#: Distribution → the private parts that are used, as `module:path`.
USES: dict[str, set[str]] = {
    "apiflask": {"apiflask.exceptions:_ValidationError"},
    "fakeredis": {
        "fakeredis._clients._tcp_server:encode_reply",
        "fakeredis._command_args_parsing:Timeout",
        "fakeredis._commands:Signature",
        "fakeredis._socket:FakeSocket",
        "fakeredis._socket:FakeSocket._blmovem_pass",
        "fakeredis._socket:FakeSocket._blocking",
        "fakeredis._socket:FakeSocket._name_to_func",
        "fakeredis._socket:FakeSocket._client_info",
        "fakeredis:FakeRedisConnection._connect",
        "fakeredis:FakeRedisConnection._client_class",
        "fakeredis:FakeRedisConnection._client_info",
        "fakeredis:FakeRedisConnection._lua_modules",
        "fakeredis:FakeRedisConnection._server",
    },
    "gunicorn": {"gunicorn.glogging:Logger._compute_access_log_enabled"},
    "peewee": {
        "playhouse.pool:PooledMySQLDatabase._can_reuse",
        "playhouse.pool:PooledMySQLDatabase._is_closed",
    },
    "pymysql": {"pymysql.cursors:Cursor._query"},
    "rq": {
        "rq.worker:BaseWorker._set_connection",
        "rq.job:Job._status",
        # Each job gets a shallow copy of the worker, with an `execution` of its own.
        "rq.worker:BaseWorker.execution",
    },
}

#: Documented, although they begin with an underscore.
PUBLIC = {"_meta"}

#: Modules that do more than define when they are imported.
NOT_IMPORTED = {"app.wsgi", "app.gunicorn_conf", "app.gunicorn_worker"}


@pytest.mark.parametrize("distribution", sorted(USES))
def test_a_library_with_private_uses_is_pinned_to_its_minor_version(distribution: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    [requirement] = [each for each in project["dependencies"] if re.match(rf"{distribution}\b", each)]

    match = re.search(r">=(\d+)\.(\d+),<(\d+)\.(\d+)$", requirement)

    assert match is not None, requirement
    major, minor, next_major, next_minor = map(int, match.groups())
    assert (next_major, next_minor) == (major, minor + 1)


@pytest.mark.parametrize("use", sorted(set().union(*USES.values())))
def test_a_private_part_that_is_used_exists(use: str) -> None:
    module, _, path = use.partition(":")
    found: Any = importlib.import_module(module)

    *owners, last = path.split(".")
    for name in owners:
        found = getattr(found, name)

    is_field = any(last in vars(cls).get("__annotations__", {}) for cls in getattr(found, "__mro__", ()))
    assert hasattr(found, last) or is_field or _is_set_in_init(found, last), use


def _is_set_in_init(owner: type, attribute: str) -> bool:
    return any(
        re.search(rf"self\.{attribute}\b\s*(:[^=]+)?=", inspect.getsource(vars(cls)["__init__"]))
        for cls in owner.__mro__
        if "__init__" in vars(cls) and cls is not object and inspect.isfunction(vars(cls)["__init__"])
    )


def test_every_private_name_that_is_imported_from_a_library_is_named() -> None:
    named = set().union(*USES.values())

    assert set(_imported_private_names()) - named == set()


def _imported_private_names() -> Iterator[str]:
    for source in SOURCES.values():
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.ImportFrom) or node.level or (node.module or "").startswith(("app", "worker")):
                continue
            for alias in node.names:
                parts = [*(node.module or "").split("."), alias.name]
                if node.module not in ("__future__", "_typeshed.wsgi") and any(part.startswith("_") for part in parts):
                    yield f"{node.module}:{alias.name}"


def test_every_private_part_that_a_subclass_uses_is_named() -> None:
    named = {use.rpartition(".")[2] for use in set().union(*USES.values())}

    used = {f"{cls.__module__}.{cls.__name__}: {name}" for cls in _subclasses() for name in _private_names(cls)}

    assert {use for use in used if use.rpartition(" ")[2] not in named} == set()


def _subclasses() -> Iterator[type]:
    """Our classes with a base from a library."""
    libraries = packages_distributions()
    for module in SOURCES:
        if module in NOT_IMPORTED or module.endswith("__main__"):
            continue
        for _, cls in inspect.getmembers(importlib.import_module(module), inspect.isclass):
            if cls.__module__ == module and any(base.__module__.partition(".")[0] in libraries for base in cls.__mro__):
                yield cls


def _private_names(cls: type) -> Iterator[str]:
    """What *cls* overrides or uses of a library base that is private there."""
    bases = [base for base in cls.__mro__[1:] if base.__module__.partition(".")[0] not in ("app", "worker", "builtins")]
    private = {
        name
        for base in bases
        for name in vars(base)
        if name.startswith("_") and not name.startswith(("__", "_abc_")) and name not in PUBLIC
    }
    own = {name for name, value in vars(cls).items() if name in private and (callable(value) or _is_property(value))}
    # Not what a decorator made of the library's fields.
    written = [value for value in vars(cls).values() if inspect.isfunction(value) and _is_ours(value.__code__)]
    used = {name for function in written for name in _names(function.__code__)}
    yield from own | (used & private)


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith((str(ROOT / "app"), str(ROOT / "worker")))


def _is_property(value: object) -> bool:
    return isinstance(value, property)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
