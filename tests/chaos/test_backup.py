"""A backup that is taken while sessions run, restored into empty servers: with the commands of `docs/deploy.md`."""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.answers import HOLD, assert_whole, said, script, talk
from tests.chaos.deployment import DATABASE, Deployment
from tests.servers import PATIENCE_S, ROOT, MariaDB, RedisServer, binary, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def documented(part: str) -> str:
    """The one block of the guide that has *part* in it."""
    blocks = (ROOT / "docs" / "deploy.md").read_text("utf-8").split("\n```")[1::2]
    [found] = [block.partition("\n")[2] for block in blocks if part in block]
    return found


def run(command: str, folder: Path, places: dict[str, str]) -> None:
    """Run a command of the guide in *folder*, with these *places* instead of the guide's."""
    for name, place in places.items():
        command = command.replace(name, place)
    done = subprocess.run(["bash", "-euc", command], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, ""), command


def copied_file(source: Path, folder: Path) -> str:
    """Back up an SQLite database, restore it elsewhere: the URL of the copy."""
    restored = folder / "restored.db"
    places = {"/opt/backchat/.venv/bin/python": shlex.quote(sys.executable), "-o backchat -g backchat ": ""}
    run(documented("source.backup(copy)"), folder, places | {"/var/lib/backchat/backchat.db": str(source)})
    run(documented("rm -f"), folder, places | {"/var/lib/backchat/backchat.db": str(restored)})
    return f"sqlite:///{restored}"


def copied_database(source: MariaDB, target: MariaDB, folder: Path) -> str:
    """Dump a database of MariaDB, restore it on another server: the URL of the copy."""
    binary("mariadb-dump")
    for server, name in ((source, DATABASE), (target, "backchat")):
        client = documented("[client]").replace("3306", str(server.port)).replace("…", server.PASSWORD)
        (folder / f"{name}.cnf").write_text(client)
    run(documented("mariadb-dump --defaults"), folder, {"backchat": DATABASE})
    run(documented("--execute="), folder, {})
    return target.url("backchat")


@contextmanager
def posting(deployment: Deployment, model: str) -> Iterator[list[str]]:
    """Somebody starts one session after the other; the ids of those that were accepted so far."""
    accepted: list[str] = []
    over = threading.Event()

    def post() -> None:
        while not over.is_set():
            accepted.append(deployment.start_session(model))

    thread = threading.Thread(target=post)
    thread.start()
    try:
        yield accepted
    finally:
        over.set()
        thread.join()


def test_every_session_that_was_accepted_before_a_backup_began_is_in_it_and_ends_where_it_is_restored(
    deployment: Deployment,
    make_mariadb: Callable[[], MariaDB],
    make_redis: Callable[..., RedisServer],
    tmp_path: Path,
) -> None:
    deployment.worker()
    quick, held = script(deployment, [talk("a", 2, 0.01)]), script(deployment, [talk("b", 2, 0.01), HOLD, talk("c", 2)])
    before = [deployment.start_session(model) for model in (quick, held) * 3]
    for session_id in before:
        deployment.wait_for_text(session_id)

    with posting(deployment, quick) as accepted:
        wait_until(lambda: len(accepted) > 3, "sessions that are just being written")
        before += accepted
        if deployment.database is None:
            url = copied_file(deployment.folder / "backchat.db", tmp_path)
        else:
            url = copied_database(deployment.database, make_mariadb(), tmp_path)
    deployment.end_workers()
    deployment.model_server.release(held)
    redis = make_redis()
    restored = Deployment(tmp_path, database=None, broker=redis, model_server=deployment.model_server)
    restored.environment = deployment.environment | {"DATABASE_URL": url, "REDIS_URL": redis.url}

    with restored:
        restored.start_web()
        restored.start_worker()
        for session_id in before:
            row = restored.wait_ended(session_id)
            answer = said("a", 2) if row["model"].endswith(quick) else said("b", 2) + said("c", 2)
            assert row["status"] == "done"
            assert_whole(restored.events(session_id), row, answer)
