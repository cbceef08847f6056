"""Deployments for fault tests: web processes are shared, workers are each test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.deployment import Deployment
from tests.model_server import ModelServer
from tests.servers import EmbeddedBroker, MariaDB, RedisServer

#: Short, so that a takeover takes seconds; whoever tests the defaults gives them to its own workers.
LEASE_S = 2.0
SWEEP_S = 0.5


def _deployments(folder: Path, kind: str, model_server: ModelServer, template: Path | None) -> Iterator[Deployment]:
    database = None if template is None else MariaDB(folder / "mariadb", template=template).start()
    broker = (EmbeddedBroker if kind == "embedded" else RedisServer)(folder / "broker").start()
    settings = {"lease_s": LEASE_S, "sweep_s": SWEEP_S, "stop_grace_s": 1}
    with Deployment(folder, database=database, broker=broker, model_server=model_server, **settings) as deployment:
        deployment.start_web()
        deployment.start_web()
        yield deployment
    broker.kill9()
    if database is not None:
        database.kill9()


@pytest.fixture(scope="package", params=["embedded", "servers"])
def _started(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model_server: ModelServer
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp(request.param)
    template: Path | None = request.getfixturevalue("mariadb_template") if request.param == "servers" else None
    yield from _deployments(folder, request.param, model_server, template)


@pytest.fixture(scope="module")
def _shared(_started: Deployment) -> Deployment:
    """The modules share it one after the other, each from an empty database on."""
    _started.forget_all()
    return _started


@pytest.fixture
def deployment(_shared: Deployment) -> Iterator[Deployment]:
    """SQLite with the embedded broker, and MariaDB with Redis: two web processes and nothing that runs.

    A worker may be left from another test: `worker()` takes it, `end_workers()` ends it.
    """
    yield _shared
    _shared.clear()


@pytest.fixture
def servers(deployment: Deployment) -> Deployment:
    """Only MariaDB with Redis: SQLite is a file and can't be away."""
    if deployment.database is None:
        pytest.skip("SQLite can't be away")
    return deployment
