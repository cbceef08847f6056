"""The fixtures keep what they promise to the tests that build on them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import psutil
import pymysql
import pytest
import redis

from tests.preloaded import PreloadedProcess
from tests.servers import ROOT, MariaDB, Process, RedisServer, free_port, memory, wait_until


def test_mariadb_comes_back_with_its_data_after_kill_9(make_mariadb: Callable[[], MariaDB]) -> None:
    server = make_mariadb()
    server.create_database("kept")
    server.execute("CREATE TABLE kept.t (text TEXT)", "INSERT INTO kept.t VALUES ('Привет 🙂')")

    server.kill9()
    with pytest.raises(pymysql.err.OperationalError):
        server.connect()
    server.start()

    with server.connect("kept") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT text FROM t")
        assert cursor.fetchall() == (("Привет 🙂",),)


@pytest.mark.parametrize("persist", [False, True])
def test_redis_comes_back_as_asked_after_kill_9(make_redis: Callable[..., RedisServer], persist: bool) -> None:
    server = make_redis(persist=persist)
    with redis.Redis.from_url(server.url) as client:
        client.set("key", "value")

        server.kill9()
        server.start()

        assert client.get("key") == (b"value" if persist else None)


def test_a_paused_redis_answers_nothing_until_it_is_resumed(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis()
    with redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None) as client:
        client.ping()

        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()

        assert client.ping()


def test_no_thread_of_a_paused_process_runs_any_more(tmp_path: Path) -> None:
    busy = textwrap.dedent("""\
        import os, threading

        def work():
            while True:
                pass

        os.fork()
        for _ in range(3):
            threading.Thread(target=work).start()
        os.write(1, b"up\\n")
    """)
    with Process.python("-c", busy, log=tmp_path / "busy.log", environment={}) as process:
        process.wait_for_line("up", count=2)
        family = process.family()

        for _ in range(20):
            process.pause()
            stats = [stat.read_text() for each in family for stat in Path(f"/proc/{each.pid}/task").glob("*/stat")]
            process.resume()

            assert [stat.rpartition(") ")[2][0] for stat in stats] == ["T"] * 8


def test_a_broker_is_empty_at_the_start_of_each_test(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_a_database_is_empty_and_speaks_utf8mb4(mariadb: MariaDB) -> None:
    mariadb.create_database("empty")

    with mariadb.connect("empty") as connection, connection.cursor() as cursor:
        cursor.execute("SHOW TABLES")
        tables = cursor.fetchall()
        cursor.execute("SELECT @@character_set_database")
        charset = cursor.fetchone()
    mariadb.drop_database("empty")

    assert tables == ()
    assert charset == ("utf8mb4",)


def test_a_process_tells_its_lines_as_they_come(make_process: Callable[..., Process]) -> None:
    process = make_process("-c", "print('one'); print('two'); input()")

    assert process.wait_for_line("t.o") == "two"
    assert process.wait() == 1  # input() found no terminal
    assert "EOFError" in process.output
    with pytest.raises(AssertionError, match="ended without printing 'three'"):
        process.wait_for_line("three")


def test_nothing_survives_a_killed_test_run(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, pathlib, signal
            from tests.servers import Process
            log = pathlib.Path({str(tmp_path / "log")!r})
            child = Process.python("-c", "import time; print('up'); time.sleep(60)", log=log)
            child.start().wait_for_line("up")
            print(child.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
            """
        )
    )

    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    child = int(run.stdout)

    wait_until(lambda: not psutil.pid_exists(child), "the child's end")


@pytest.mark.skipif(memory() is None, reason="no room in memory")
def test_a_killed_test_run_leaves_nothing_in_memory() -> None:
    folder = Path(tempfile.mkdtemp(dir=memory()))
    script = f"""
import os, pathlib, signal
from tests.servers import guard
guard.remove(pathlib.Path({str(folder)!r}))
os.kill(os.getpid(), signal.SIGKILL)
"""

    subprocess.run([sys.executable, "-c", script], cwd=ROOT)

    wait_until(lambda: not folder.exists(), "the folder's end")


def test_memory_is_used_only_where_there_is_room(tmp_path: Path) -> None:
    assert memory(tmp_path, wanted=1) == tmp_path
    assert memory(tmp_path, wanted=10**18) is None
    assert memory(tmp_path / "missing", wanted=1) is None


def test_a_forked_process_has_its_own_environment_and_ends_with_its_own_status(tmp_path: Path) -> None:
    log = tmp_path / "forked.log"
    first = PreloadedProcess("worker", log=log, environment={})
    second = PreloadedProcess(
        "worker", log=log, environment={"REDIS_URL": "redis://127.0.0.1:1", "DATABASE_URL": "x://"}
    )

    ends = [first.start().wait(), second.start().wait()]

    assert ends == [os.EX_CONFIG, os.EX_CONFIG]
    assert "REDIS_URL is not set" in first.output
    assert "DATABASE_URL must start with" in second.output


def test_a_forked_process_can_be_asked_to_end_killed_and_started_again(tmp_path: Path) -> None:
    with PreloadedProcess("http.server", "--bind=127.0.0.1", "0", log=tmp_path / "f.log", environment={}) as server:
        server.wait_for_line("Serving")
        assert os.getsid(server.pid) == server.pid
        server.signal(signal.SIGTERM)
        assert server.wait() == -signal.SIGTERM

        server.start().wait_for_line("Serving")
        server.kill9()
        assert not server.alive
        assert server.wait() == -signal.SIGKILL


def test_a_free_port_is_none_that_outgoing_connections_are_given() -> None:
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not given.exists():
        pytest.skip("only Linux says which ports those are")
    first, last = map(int, given.read_text("ascii").split())

    ports = {free_port() for _ in range(100)}

    assert not [port for port in ports if first <= port <= last]
    assert len(ports) > 1
