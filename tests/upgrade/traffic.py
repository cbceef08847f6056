"""Clients that ask, poll, look and rename all the time, and remember what each request met with."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

CLIENTS = 6
_AGAIN_S, _LOOK_S = 0.05, 0.1
_ANSWER_S, _PATIENCE_S = 30.0, 60.0


@dataclass
class Asked:
    """A message that was accepted."""

    owner: str
    conversation_id: str
    session_id: str
    message: str


@dataclass
class Met:
    """What the requests of one kind met with, in seconds."""

    count: int = 0
    #: The longest answer.
    longest_s: float = 0.0
    #: The longest time from the first refusal of a request to its answer.
    refused_s: float = 0.0


@dataclass
class Traffic:
    """Args:
    tokens: By owner.
    ports: Of the web processes; a refused request goes to the other one, as a proxy would send it.
    """

    tokens: dict[str, str]
    ports: Sequence[int]
    #: Conversations to look at, with their owners.
    known: Sequence[tuple[str, str]]
    asked: list[Asked] = field(default_factory=list)
    met: dict[str, Met] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        works: list[Callable[[], None]] = [lambda number=number: self._talk(number) for number in range(CLIENTS)]  # type: ignore[misc]
        self._threads = [
            threading.Thread(target=self._keep_on, args=(work,), daemon=True) for work in (*works, self._look)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask nothing more; returns when everything that was asked has been answered, or will not be."""
        self._over.set()
        deadline = time.monotonic() + _PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self.wrong.append(f"not everything was answered within {_PATIENCE_S:.0f} s")

    def _keep_on(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the verdict tells it
            self.wrong.append(f"a client gave up: {error!r}")

    def _talk(self, number: int) -> None:
        """Ask and poll to the end, in turns in two conversations."""
        owner, threads = f"client{number}", [str(uuid.uuid4()), str(uuid.uuid4())]
        for turn in range(1_000_000):
            if self._over.is_set():
                return
            message = f"unique{number}x{turn}end"
            body = {"message": message, "conversationId": threads[turn % 2]}
            started = self.call(owner, "POST", "/api/chat/session", body, key=message)
            asked = Asked(owner, started["conversationId"], started["sessionId"], message)
            with self._lock:
                self.asked.append(asked)
            self._poll(asked)

    def _poll(self, asked: Asked) -> None:
        after, status = 0, "running"
        while status == "running":
            path = f"/api/chat/session/{asked.session_id}/events?after={after}"
            page = self.call(asked.owner, "GET", path)
            seqs = [event["seq"] for event in page["events"]]
            if seqs != list(range(after + 1, after + 1 + len(seqs))):
                self.wrong.append(f"{asked.session_id}: after {after} came {seqs}")
            after, status = page["nextAfter"], page["status"]
            time.sleep(_LOOK_S)

    def _look(self) -> None:
        """Read and rename what was there before."""
        for turn in range(1_000_000):
            if self._over.is_set():
                return
            owner, conversation = self.known[turn % len(self.known)]
            self.call(owner, "GET", "/api/chat/sessions")
            page = self.call(owner, "GET", f"/api/conversations/{conversation}/messages?limit=200")
            if len(page["messages"]) != page["total"]:
                self.wrong.append(f"{conversation} has {len(page['messages'])} messages of {page['total']}")
            self.call(owner, "GET", "/api/conversations/search?q=question")
            self.call(owner, "PATCH", f"/api/conversations/{conversation}", {"title": f"renamed {turn}"})
            time.sleep(_LOOK_S)

    def call(self, owner: str, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        """The JSON of the answer, from whichever process gives one."""
        begun = time.monotonic()
        refused_at: float | None = None
        for number in range(1_000_000):
            status, answer = self._try(self.ports[number % len(self.ports)], owner, method, path, body, key)
            now = time.monotonic()
            if status < 500:
                break
            refused_at = begun if refused_at is None else refused_at
            if now - begun > 120:
                raise AssertionError(f"{method} {path} was refused for two minutes: {answer!r}")
            time.sleep(_AGAIN_S)
        if status >= 400:
            raise AssertionError(f"{method} {path}: {status} {answer!r}")
        with self._lock:
            met = self.met.setdefault(_kind(method, path), Met())
            met.count += 1
            met.longest_s = max(met.longest_s, now - begun)
            met.refused_s = max(met.refused_s, 0.0 if refused_at is None else now - refused_at)
        return json.loads(answer) if answer else None

    def _try(self, port: int, owner: str, method: str, path: str, body: Any, key: str | None) -> tuple[int, bytes]:
        """Status and body; 599: there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.tokens[owner]}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            return 599, repr(error).encode()
        finally:
            with contextlib.suppress(OSError):
                connection.close()


def _kind(method: str, path: str) -> str:
    if "search" in path:
        return "search"
    if method == "PATCH":
        return "rename"
    if method == "POST":
        return "start"
    return "poll" if "/events" in path else "list"
