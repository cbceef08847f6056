from __future__ import annotations

import asyncio
import signal
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from redis import Redis
from rq import Queue, Worker
from rq.job import JobStatus
from rq.registry import FinishedJobRegistry, StartedJobRegistry

from app.broker.client import open_redis
from app.broker.embedded import Broker
from app.broker.queue import QUEUE_NAME, TurnQueue
from tests.servers import EmbeddedBroker, Process, wait_until
from worker.rq import SessionWorker


@pytest.fixture
def client(embedded_broker: EmbeddedBroker) -> Iterator[Redis]:
    with open_redis(embedded_broker.url, timeout_s=5) as connection:
        connection.flushall()
        yield connection


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="broker-") as folder:
        yield Path(folder)


def test_it_ends_whichever_of_its_threads_the_signal_interrupts(
    make_process: Callable[..., Process], short: Path
) -> None:
    broker = make_process("-m", "app.broker.embedded", str(short / "socket"))
    broker.wait_for_line("Ready to accept connections")

    broker.signal_another_thread(signal.SIGTERM)

    assert broker.wait(30) == 0


def test_the_stock_rq_worker_runs_jobs(
    client: Redis, embedded_broker: EmbeddedBroker, make_process: Callable[..., Process]
) -> None:
    queue = Queue("plain", connection=client)
    jobs = [queue.enqueue("math.sqrt", n, result_ttl=60) for n in (4, 9)] + [queue.enqueue("math.sqrt", -1)]

    worker = make_process("-m", "rq.cli", "worker", "--url", embedded_broker.url, "--burst", "plain")

    assert worker.wait() == 0, worker
    assert [job.get_status() for job in jobs] == [JobStatus.FINISHED, JobStatus.FINISHED, JobStatus.FAILED]
    assert [job.return_value() for job in jobs] == [2.0, 3.0, None]
    assert len(FinishedJobRegistry("plain", connection=client)) == 2
    assert Worker.all(connection=client) == []


def test_rq_info_shows_what_runs(
    client: Redis, embedded_broker: EmbeddedBroker, make_process: Callable[..., Process]
) -> None:
    Queue("plain", connection=client).enqueue("math.sqrt", 4)

    info = make_process("-m", "rq.cli", "info", "--url", embedded_broker.url, "--raw")

    assert info.wait() == 0, info
    assert "queue plain" in info.output


def test_both_workers_take_sessions_from_one_queue(client: Redis, embedded_broker: EmbeddedBroker) -> None:
    bell = TurnQueue(embedded_broker.url)

    async def scenario() -> list[str]:
        ran: list[str] = []
        done = asyncio.Event()

        async def run(session_id: str) -> None:
            ran.append(session_id)
            if len(ran) == 20:
                done.set()

        async def drain(grace_s: float) -> None:
            return

        workers = [SessionWorker(embedded_broker.url, run, drain, concurrency=3) for _ in range(2)]
        serving = [asyncio.create_task(worker.serve()) for worker in workers]
        for number in range(20):
            await asyncio.to_thread(bell.ring, f"s{number}", 0)
        await asyncio.wait_for(done.wait(), 20)
        for worker in workers:
            worker.request_stop()
        await asyncio.gather(*serving)
        return ran

    ran = asyncio.run(scenario())

    assert sorted(ran) == sorted(f"s{number}" for number in range(20))
    assert len(StartedJobRegistry(QUEUE_NAME, connection=client)) == 0


def test_an_error_is_an_answer_and_the_connection_goes_on(client: Redis) -> None:
    client.set("text", "value")
    connection = client.connection_pool.get_connection()
    try:
        for command, error in (
            (("LPUSH", "text", "x"), "WRONGTYPE|wrong kind of value"),
            (("NOSUCHCOMMAND",), "unknown command"),
            (("GET",), "wrong number of arguments"),
        ):
            connection.send_command(*command)
            with pytest.raises(redis.ResponseError, match=error):
                connection.read_response()
        connection.send_command("GET", "text")
        assert connection.read_response() == b"value"
    finally:
        client.connection_pool.release(connection)


def test_values_are_any_bytes_of_any_size(client: Redis) -> None:
    value = bytes(range(256)) * 8192

    client.set("bytes", value)
    client.rpush("list", b"\r\n", b"", "Привет 🙂")

    assert client.get("bytes") == value
    assert client.lrange("list", 0, -1) == [b"\r\n", b"", "Привет 🙂".encode()]


@pytest.fixture
def broker(short: Path) -> Iterator[Broker]:
    """One inside the test's own process, to look into."""
    with Broker(short / "socket") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def is_waited_on(broker: Broker) -> bool:
    return any(session._blocked for session in list(broker.data.sockets))


def test_a_waiting_client_gets_its_job_at_once(broker: Broker) -> None:
    with Redis(unix_socket_path=str(broker.server_address)) as client, ThreadPoolExecutor() as threads:
        waiting = threads.submit(client.blmove, "from", "to", 20)
        wait_until(lambda: is_waited_on(broker), "the wait")

        pushed = time.monotonic()
        client.rpush("from", "job")

        assert waiting.result(10) == b"job"
        assert time.monotonic() - pushed < 1


def test_a_client_that_died_while_it_waited_takes_no_job_with_it(broker: Broker) -> None:
    with Redis(unix_socket_path=str(broker.server_address)) as client:
        with socket.socket(socket.AF_UNIX) as dying:
            dying.connect(str(broker.server_address))
            dying.sendall(b"*3\r\n$5\r\nBLPOP\r\n$4\r\nfrom\r\n$1\r\n0\r\n")
            wait_until(lambda: is_waited_on(broker), "the wait")

        client.rpush("from", "job")

        assert client.blpop("from", timeout=5) == (b"from", b"job")


def test_a_subscriber_hears_messages_at_once_while_others_work(client: Redis) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe("news")
        channel.get_message(timeout=1)
        begun = time.monotonic()
        for number in range(50):
            client.publish("news", number)
        heard = [channel.get_message(timeout=2) for _ in range(50)]

    assert [message and message["data"] for message in heard] == [str(number).encode() for number in range(50)]
    assert time.monotonic() - begun < 2


def test_it_ends_on_sigterm_while_clients_are_connected(tmp_path: Path) -> None:
    server = EmbeddedBroker(tmp_path).start()
    with Redis.from_url(server.url) as client:
        client.ping()
        assert server._process.stop(timeout_s=5) == 0


def test_a_taken_socket_is_told_and_left_to_who_has_it(
    embedded_broker: EmbeddedBroker, make_process: Callable[..., Process], client: Redis
) -> None:
    second = make_process("-m", "app.broker.embedded", str(embedded_broker.path))

    assert second.wait() == 1
    assert "another broker listens there" in second.output
    assert client.ping()


def test_the_socket_of_a_broker_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    server = EmbeddedBroker(tmp_path).start()
    server.kill9()

    server.start()

    with Redis.from_url(server.url) as client:
        assert client.ping()
    server.kill9()


def test_nobody_else_can_connect(short: Path) -> None:
    path = short / "made" / "socket"

    with Broker(path):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    assert not path.exists()
