"""Real parts for tests: private servers and processes on loopback, which a test may kill.

Everything started here runs in a session of its own and ends with the test run, even when that one is killed.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import psutil
import pymysql
import pytest

from app.dev import free_port
from tests.leaks import leaks, secrets_of

ROOT = Path(__file__).resolve().parent.parent

#: How long anything here may take to start or stop, in seconds: much longer than on a machine with nothing else to do.
PATIENCE_S = 90.0


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Return as soon as *condition* is true, for what gives no signal to wait on.

    Raises:
        AssertionError: it did not become true in time.
    """
    begun = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - begun
        assert waited_s < timeout_s, f"not within {timeout_s} s: {what}"
        # Looking may cost a request, and other tests want the machine.
        time.sleep(min(max(waited_s / 10, 0.02), 0.1))


def binary(*names: str) -> str:
    """The path of the first of these programs that is installed.

    Without one the test is skipped, or fails where everything must run (`CI=true`).
    """
    for name in names:
        # Debian keeps daemons where only root's PATH looks.
        if path := shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"):
            return path
    reason = f"{' or '.join(names)} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


#: A folder in memory on Linux, and what there must be of it: a run takes a fifth.
_MEMORY, _MEMORY_BYTES = Path("/dev/shm"), 4 * 1024**3


def memory(folder: Path = _MEMORY, wanted: int = _MEMORY_BYTES) -> Path | None:
    """A folder whose files are kept in memory, where there is one that can be written, with room for all tests."""
    with suppress(OSError):
        room = min(shutil.disk_usage(folder).free, psutil.virtual_memory().available)
        if room >= wanted and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None


class _Guard:
    """Kills what is left when the test run dies without cleaning up: the pipe to it closes then."""

    _SCRIPT = (
        "import os, shutil, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "groups = set()\n"
        "folder = ''\n"
        "for line in sys.stdin:\n"
        "    if line[0] == '=': folder = line[1:-1]\n"
        "    else: (groups.add if line[0] == '+' else groups.discard)(int(line[1:]))\n"
        "for group in groups:\n"
        "    try: os.killpg(group, signal.SIGKILL)\n"
        "    except OSError: pass\n"
        "if folder: shutil.rmtree(folder, ignore_errors=True)\n"
    )

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def tell(self, line: str) -> None:
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", self._SCRIPT], stdin=subprocess.PIPE, start_new_session=True
                )
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def remove(self, folder: Path) -> None:
        """If the run dies, remove its *folder* too, where it takes memory."""
        if folder.is_relative_to(_MEMORY):
            self.tell(f"={folder}")

    def close(self) -> None:
        """The run has ended by itself: its folder stays for whoever looks into a failure."""
        with self._lock:
            if self._process is not None:
                self._process.communicate(b"=\n")
                self._process = None


guard = _Guard()


def environment_of(changes: Mapping[str, str]) -> dict[str, str]:
    """An environment that holds no setting of ours but these."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "CI") if name in os.environ}
    return inherited | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), "ENV_FILE": os.devnull} | dict(changes)


class Process:
    """A program in a session of its own, with its output in `log`.

    Leaving its `with` block ends it and everything that it started.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self.arguments = list(arguments)
        self.log = log
        #: None: the test run's own.
        self.environment = environment
        self.cwd = cwd
        #: A `subprocess.Popen`, or what stands for one.
        self._process: Any = None
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._reader: threading.Thread | None = None

    @classmethod
    def python(
        cls, *arguments: str, log: Path, environment: Mapping[str, str] | None = None, cwd: Path = ROOT
    ) -> Process:
        """`python …` with *environment* on top of one that holds no setting of ours, wherever *cwd* is."""
        return cls([sys.executable, *arguments], log=log, environment=environment_of(environment or {}), cwd=cwd)

    def start(self) -> Self:
        """Start it, or start it again once it has ended."""
        assert self._process is None or self._process.poll() is not None, "still running"
        self._join()
        self._lines.clear()
        self._process = self._begin()
        guard.tell(f"+{self._process.pid}")
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        return self

    def _begin(self) -> Any:
        return subprocess.Popen(
            self.arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            cwd=self.cwd,
            start_new_session=True,
        )

    def _read(self, process: Any) -> None:
        assert process.stdout is not None
        secrets = secrets_of(self.environment or {})
        # The command that prints a token was asked to.
        watched = "token" not in self.arguments
        with self.log.open("ab", buffering=0) as log, process.stdout:
            for line in process.stdout:
                log.write(line)
                if watched:
                    leaks.look(line.decode("utf-8", "replace"), secrets, self.log.name)
                with self._news:
                    self._lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._lines.append(_END)
            self._news.notify_all()

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """What it has printed since it was started last."""
        with self._news:
            return "\n".join(line for line in self._lines if line is not _END)

    def wait_for_line(self, pattern: str, timeout_s: float = PATIENCE_S, count: int = 1) -> str:
        """The first line (or the *count*-th) that *pattern* is found in, as soon as it is printed.

        Raises:
            AssertionError: it ended without printing it, or took too long.
        """
        deadline = time.monotonic() + timeout_s
        seen = 0
        found = 0
        while True:
            with self._news:
                while seen == len(self._lines):
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._news.wait(left):
                        raise AssertionError(f"{pattern!r} not printed within {timeout_s} s by {self}")
                line = self._lines[seen]
            if line is _END:
                raise AssertionError(f"ended without printing {pattern!r}: {self}")
            seen += 1
            found += re.search(pattern, line) is not None
            if found == count:
                return line

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit status, once it has ended by itself.

        Raises:
            AssertionError: it still runs.
        """
        assert self._process is not None, "not started"
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s} s: {self}") from None
        self._join(timeout_s=1.0)
        guard.tell(f"-{self._process.pid}")
        return status

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; not to its children."""
        assert self._process is not None, "not started"
        self._process.send_signal(number)

    def signal_another_thread(self, number: signal.Signals) -> None:
        """Send it a signal that interrupts another thread than its first: the kernel may choose so."""
        others = [thread.id for thread in psutil.Process(self.pid).threads() if thread.id != self.pid]
        assert ctypes.CDLL(None).tgkill(self.pid, others[-1], number) == 0

    def pause(self) -> None:
        """Freeze it and its children, as a hung machine would: on return none of their threads runs any more."""
        self._signal_group(signal.SIGSTOP)
        # The call returns at once; a thread on another core, or in a system call, stops a little later.
        wait_until(lambda: set(self._thread_states()) <= set("TZX"), f"all threads of {self} stand still")

    def _thread_states(self) -> list[str]:
        """One letter for each thread of the group, as proc(5) has them; none where there is no /proc."""
        states = []
        for process in self.family():
            for stat in Path(f"/proc/{process.pid}/task").glob("*/stat"):
                with suppress(OSError):  # a thread that has just ended
                    after_name = stat.read_text().rpartition(")")[2].split()
                    if int(after_name[2]) == self.pid:
                        states.append(after_name[0])
        return states

    def resume(self) -> None:
        self._signal_group(signal.SIGCONT)

    def kill9(self) -> None:
        """End it and its children without any notice, as a power cut would."""
        if self._process is not None:
            self._signal_group(signal.SIGKILL)
            self._process.wait(PATIENCE_S)
            guard.tell(f"-{self._process.pid}")
        self._join()

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """SIGTERM, then wait for its exit status; whatever it leaves behind is killed."""
        assert self._process is not None, "not started"
        if self.alive:
            self._process.terminate()
        try:
            return self.wait(timeout_s)
        finally:
            self.kill9()

    def family(self) -> list[psutil.Process]:
        """It and everything below it that runs now."""
        try:
            itself = psutil.Process(self.pid)
            return [itself, *itself.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def _join(self, timeout_s: float = PATIENCE_S) -> None:
        if self._reader is not None:
            self._reader.join(timeout_s)

    def __enter__(self) -> Self:
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill9()

    def __repr__(self) -> str:
        status = "not started" if self._process is None else f"status {self._process.poll()}"
        tail = "\n".join(self.output.splitlines()[-30:])
        return f"<{' '.join(self.arguments[:6])} ({status}); log {self.log}>\n{tail}"


#: Stands for the end of the output among its lines.
_END = "\0end"


class _Server:
    """A private server on `port`; a test may kill it, freeze it and start it again."""

    _process: Process
    port: int

    def start(self) -> Self:
        self._process.start().wait_for_line("(?i)ready (to accept|for) connections")
        return self

    def kill9(self) -> None:
        self._process.kill9()

    def pause(self) -> None:
        """Connections open and nothing answers."""
        self._process.pause()

    def resume(self) -> None:
        self._process.resume()

    def stop(self) -> None:
        self._process.stop()


class RedisServer(_Server):
    """A private `redis-server`. With `persist` it keeps its data over `kill9()`; without, it comes back empty."""

    def __init__(self, folder: Path, *, persist: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process = Process(
            [
                binary("redis-server", "valkey-server"),
                *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder), "--save", ""),
                *("--appendonly", "yes" if persist else "no", "--appendfsync", "always"),
            ],
            log=folder / "redis.log",
        )


class EmbeddedBroker(_Server):
    """`python -m app.broker.embedded`: what a machine without Redis uses."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # The path of a socket has 107 bytes at most; pytest's folders are longer.
        short = tempfile.mkdtemp(prefix="broker-")
        atexit.register(shutil.rmtree, short, ignore_errors=True)
        self.path = Path(short) / "socket"
        self.url = f"unix://{self.path}"
        self._process = Process.python("-m", "app.broker.embedded", str(self.path), log=folder / "broker.log")


class MariaDB(_Server):
    """A private `mariadbd`; its data survives `kill9()` and `stop()`, and `start()` brings it back on the same port."""

    USER = "backchat"
    #: Has to be quoted in a URL, as a real one would.
    PASSWORD = "p@ss:w/rd"

    def __init__(self, folder: Path, *, template: Path | None = None, options: Sequence[str] = ()) -> None:
        """Args:
        folder: Gets the data, the socket and the log.
        template: Data of a server that was installed before, to copy instead of installing.
        options: Further ones of mariadbd.
        """
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        server = binary("mariadbd", "mysqld")
        folder.mkdir(parents=True, exist_ok=True)
        # mariadbd refuses to run as root without being asked to.
        self._user = ["--user=root"] if os.geteuid() == 0 else []
        # A server that starts removes what looks like its temporary tables, also those of another in the same folder.
        temporary = folder / "tmp"
        temporary.mkdir()
        if template is None:
            self._install(temporary)
        else:
            shutil.copytree(template, self.data)
        (folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS '{self.USER}'@'127.0.0.1' IDENTIFIED BY '{self.PASSWORD}';\n"
            f"GRANT ALL ON *.* TO '{self.USER}'@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        self._process = Process(
            [
                server,
                "--no-defaults",
                *self._user,
                f"--datadir={self.data}",
                # A socket's path may have 107 characters; pytest's folders are longer.
                f"--socket={os.path.relpath(folder / 's', self.data)}",
                f"--pid-file={folder / 'pid'}",
                # A server that starts deletes what it takes for its own leftovers: in /tmp, another one's tables.
                f"--tmpdir={temporary}",
                f"--init-file={folder / 'init.sql'}",
                f"--port={self.port}",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                "--max-allowed-packet=64M",
                "--innodb-log-file-size=32M",
                "--innodb-buffer-pool-size=32M",
                "--innodb-flush-log-at-trx-commit=1",
                "--performance-schema=OFF",
                "--max-connections=500",
                *options,
            ],
            log=folder / "mariadb.log",
        )

    def _install(self, temporary: Path) -> None:
        installed = subprocess.run(
            [
                binary("mariadb-install-db", "mysql_install_db"),
                "--no-defaults",
                *self._user,
                f"--datadir={self.data}",
                f"--tmpdir={temporary}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--innodb-log-file-size=32M",
            ],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert installed.returncode == 0, installed.stdout

    def url(self, database: str) -> str:
        """The `DATABASE_URL` of one of its databases."""
        return f"mysql://{self.USER}:{quote(self.PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str | None = None) -> pymysql.Connection[pymysql.cursors.Cursor]:
        """A plain connection for the test itself."""
        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.USER,
            password=self.PASSWORD,
            database=database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=10,
        )

    def execute(self, *statements: str) -> None:
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def create_database(self, name: str) -> str:
        """An empty database; returns its URL."""
        self.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop it, also under connections that still use it."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (name,))
            for (thread,) in cursor.fetchall():
                try:
                    cursor.execute("KILL %s", (thread,))
                except pymysql.Error:
                    continue  # gone by itself
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
