"""Fixtures that bring real servers; see `tests.servers`."""

from __future__ import annotations

import gc
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import peewee
import pytest
import redis
from hypothesis import HealthCheck, settings
from playhouse.pool import PooledDatabase
from xdist.scheduler import LoadScopeScheduling

from app import db
from app.db import schema
from app.db.models import MODELS
from tests import preloaded
from tests.leaks import leaks
from tests.model_server import ModelServer
from tests.preloaded import PreloadedProcess
from tests.servers import EmbeddedBroker, MariaDB, Process, RedisServer, guard, memory

_numbers = count(1)

# Nobody's settings: neither in this process nor in those that are started with its environment.
os.environ["ENV_FILE"] = os.devnull

# How long an example takes says something of the machine and nothing of the law.
settings.register_profile("any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure() -> None:
    """Keep what tests store in memory where there is room: a commit waits for no disk, and `kill -9` loses nothing."""
    leaks.watch()
    if folder := memory():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folder))


def _group(nodeid: str) -> str:
    """Tests of one file on one database or deployment: one process runs them, and they share what they start.

    Files of fault tests share their deployments, but for the longest one: no group may outlast all others.
    """
    file, _, test = nodeid.partition("::")
    shared = " ".join(_SHARED.findall(test))
    together = shared and file.startswith("tests/chaos/") and not file.endswith("/test_worker_faults.py")
    return f"{'tests/chaos' if together else file} {shared}"


_SHARED = re.compile(r"(?<=[\[-])(?:sqlite|mariadb|embedded|servers)(?=[\]-])")


class _ByGroup(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups that take long come first: what begins last is to be short."""
    takes_s: Counter[str] = Counter()
    for item in items:
        takes_s[_group(item.nodeid)] += _takes_s(item)
    items.sort(key=lambda item: (-takes_s[_group(item.nodeid)], _group(item.nodeid)))


#: Seconds that a test of these folders and files takes, where that is much longer than others: for the order only.
_TAKES_S = {
    "chaos": 5.0,
    "e2e": 4.0,
    "unit": 0.02,
    "test_api_outages.py": 1.5,
    "test_api_schema.py": 8.0,
    "test_dev.py": 2.0,
    "test_engine_cancel.py": 1.2,
    "test_engine_mcp.py": 2.0,
    "test_engine_tools.py": 1.2,
    "test_example_agents.py": 2.0,
    "test_install.py": 2.0,
    "test_worker_process.py": 1.5,
}


def _takes_s(item: pytest.Item) -> float:
    if any(mark.name == "slow" for mark in item.own_markers):
        return 15
    return _TAKES_S.get(item.path.name, _TAKES_S.get(item.path.parent.name, 0.2))


def pytest_collection() -> None:
    # Almost nothing of what is imported and collected is ever freed.
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    guard.remove(tmp_path_factory.getbasetemp())
    yield
    preloaded.close()
    guard.close()
    assert leaks.found == [], "logs hold what is secret"


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    # Who is started by a shell in the background ignores it, and so would the processes that tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mariadb_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a fresh server; installing takes longer than copying."""
    return MariaDB(tmp_path_factory.mktemp("mariadb-template")).data


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory, mariadb_template: Path) -> Iterator[MariaDB]:
    """The MariaDB that tests share; don't harm it."""
    server = MariaDB(tmp_path_factory.mktemp("mariadb"), template=mariadb_template).start()
    yield server
    server.kill9()


@pytest.fixture
def make_mariadb(tmp_path: Path, mariadb_template: Path) -> Iterator[Callable[[], MariaDB]]:
    """Starts a MariaDB of the test's own, to be killed and paused."""
    with ExitStack() as stack:

        def make() -> MariaDB:
            server = MariaDB(tmp_path / f"mariadb-{next(_numbers)}", template=mariadb_template)
            stack.callback(server.kill9)
            return server.start()

        yield make


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts a Redis of the test's own, to be killed and paused; `persist=True` keeps its data over a kill."""
    with ExitStack() as stack:

        def make(*, persist: bool = False) -> RedisServer:
            server = RedisServer(tmp_path / f"redis-{next(_numbers)}", persist=persist)
            stack.callback(server.kill9)
            return server.start()

        yield make


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis that tests share; don't harm it."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill9()


@pytest.fixture(scope="session")
def embedded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """The embedded broker that tests share; don't harm it."""
    server = EmbeddedBroker(tmp_path_factory.mktemp("broker")).start()
    yield server
    server.kill9()


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServer]:
    """The scripted model server that tests share: each test adds scripts of its own."""
    with ModelServer.start() as server:
        yield server


@pytest.fixture(params=["embedded", "redis"])
def redis_url(request: pytest.FixtureRequest) -> str:
    """An empty broker: the test runs on the embedded one and on Redis."""
    name = "embedded_broker" if request.param == "embedded" else "redis_server"
    server: EmbeddedBroker | RedisServer = request.getfixturevalue(name)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    return server.url


@pytest.fixture(params=["sqlite", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database: the test runs on SQLite and on MariaDB."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'backchat.db'}"
        return
    server: MariaDB = request.getfixturevalue("mariadb")
    name = f"t{next(_numbers)}"
    yield server.create_database(name)
    server.drop_database(name)


def close_all(made: peewee.Database) -> None:
    """Close every connection of this process to it."""
    made.close_all() if isinstance(made, PooledDatabase) else made.close()


@contextmanager
def opened(url: str) -> Iterator[peewee.Database]:
    """Bind the models to *url*, migrated; every connection of this process is closed afterwards."""
    made = db.open_database(url)
    schema.migrate()
    try:
        yield made
    finally:
        close_all(made)


@pytest.fixture(scope="session")
def _stores(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], tuple[str, peewee.Database]]]:
    """Opens the two databases of `store`, each when it is first asked for."""
    made: dict[str, tuple[str, peewee.Database]] = {}
    with ExitStack() as stack:

        def get(kind: str) -> tuple[str, peewee.Database]:
            if kind not in made:
                if kind == "sqlite":
                    url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'backchat.db'}"
                else:
                    url = request.getfixturevalue("mariadb").create_database("store")
                made[kind] = (url, stack.enter_context(opened(url)))
            return made[kind]

        yield get


@pytest.fixture(params=["sqlite", "mariadb"])
def store(request: pytest.FixtureRequest, _stores: Callable[[str], tuple[str, peewee.Database]]) -> str:
    """A migrated database without rows that the models are bound to; its URL. The test runs on both databases.

    Tests share it, emptied: migrating takes longer than most of them.
    """
    url, made = _stores(request.param)
    db.database.initialize(made)
    # Tried again where the server still takes back what a process was writing that the last test killed.
    db.transaction(lambda: [model.delete().execute() for model in MODELS])
    return url


@pytest.fixture
def make_forked(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts `python -m …` as `make_process` does, forked from a Python that has imported the engine."""
    with ExitStack() as stack:

        def make(module: str, *arguments: str, **environment: str) -> Process:
            log = tmp_path / f"process-{next(_numbers)}.log"
            process = PreloadedProcess(module, *arguments, log=log, environment=environment)
            stack.callback(process.kill9)
            return process.start()

        yield make


@pytest.fixture
def make_process(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts `python …` with nothing in its environment but what is given; ends it after the test."""
    with ExitStack() as stack:

        def make(*arguments: str, cwd: Path | None = None, **environment: str) -> Process:
            log = tmp_path / f"process-{next(_numbers)}.log"
            options = {} if cwd is None else {"cwd": cwd}
            process = Process.python(*arguments, log=log, environment=environment, **options)
            stack.callback(process.kill9)
            return process.start()

        yield make
