"""The terminal client: start, follow, list and cancel sessions of a server over HTTP."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

#: How long the server may hold a poll, in seconds.
WAIT_S = 20
#: Pauses before an unreachable server is asked again; after the last one it is given up.
RETRY_S = (0.5, 1.0, 2.0, 4.0, 8.0)

Json = dict[str, Any]


class ApiError(Exception):
    """The server said no.

    Attributes:
        status: The HTTP status.
        code: Its stable code.
    """

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class Unreachable(Exception):
    """The server does not answer."""


class Server:
    """One Backchat server.

    Args:
        url: Where it is: `http://127.0.0.1:8000`.
        token: Sent as a bearer token; empty: none.
        sleep: Pauses between tries.
        on_retry: Gets a line when the server does not answer and is asked again.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        sleep: Callable[[float], None] = time.sleep,
        on_retry: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._url = (url if "://" in url else f"http://{url}").rstrip("/")
        self._token = token
        self._sleep = sleep
        self._on_retry = on_retry

    def start(self, message: str, **fields: Any) -> Json:
        """Start a session; a retried request never runs twice.

        Raises:
            ApiError, Unreachable
        """
        body = {"message": message} | {name: value for name, value in fields.items() if value is not None}
        return self._call("POST", "/api/chat/session", body, {"Idempotency-Key": str(uuid.uuid4())})

    def session(self, session_id: str) -> Json:
        """The session row. Raises ApiError, Unreachable."""
        return self._call("GET", f"/api/chat/session/{_quoted(session_id)}")

    def sessions(self, **filters: Any) -> Json:
        """A page of recent sessions. Raises ApiError, Unreachable."""
        wanted = {name: value for name, value in filters.items() if value is not None}
        return self._call("GET", f"/api/chat/sessions?{urllib.parse.urlencode(wanted)}")

    def cancel(self, session_id: str) -> Json:
        """End a session; returns its row. Raises ApiError, Unreachable."""
        return self._call("POST", f"/api/chat/session/{_quoted(session_id)}/cancel", {})

    def delete(self, session_id: str) -> None:
        """Delete a session with its messages. Raises ApiError, Unreachable."""
        self._call("DELETE", f"/api/chat/session/{_quoted(session_id)}")

    def conversations(self, **filters: Any) -> Json:
        """A page of conversations, the one that was used last first. Raises ApiError, Unreachable."""
        return self._call("GET", f"/api/conversations?{urllib.parse.urlencode(filters)}")

    def messages(self, conversation_id: str, **filters: Any) -> Json:
        """A page of a conversation's messages. Raises ApiError, Unreachable."""
        return self._call(
            "GET", f"/api/conversations/{_quoted(conversation_id)}/messages?{urllib.parse.urlencode(filters)}"
        )

    def delete_conversation(self, conversation_id: str) -> None:
        """Delete a conversation with all that it has. Raises ApiError, Unreachable."""
        self._call("DELETE", f"/api/conversations/{_quoted(conversation_id)}")

    def search(self, words: str, **filters: Any) -> Json:
        """A page of conversations in which all words were said. Raises ApiError, Unreachable."""
        return self._call("GET", f"/api/conversations/search?{urllib.parse.urlencode({'q': words} | filters)}")

    def agents(self) -> Json:
        """The configured agents. Raises ApiError, Unreachable."""
        return self._call("GET", "/api/agents")

    def follow(self, session_id: str, after: int = 0) -> Iterator[Json]:
        """Every event above *after*, as it comes; ends with the session. Raises ApiError, Unreachable."""
        while True:
            query = f"after={after}&wait={WAIT_S}"
            page = self._call("GET", f"/api/chat/session/{_quoted(session_id)}/events?{query}")
            yield from page["events"]
            after = page["nextAfter"]
            if page["status"] != "running":
                return

    def wait(self, session_id: str, within_s: float) -> Json:
        """The session row, as soon as it has ended or *within_s* has passed. Raises ApiError, Unreachable."""
        deadline = time.monotonic() + within_s
        row = self.session(session_id)
        after = row["lastSeq"]
        while row["status"] == "running" and (left_s := deadline - time.monotonic()) > 0:
            query = f"after={after}&wait={min(left_s, WAIT_S):.3f}"
            page = self._call("GET", f"/api/chat/session/{_quoted(session_id)}/events?{query}")
            after = page["nextAfter"]
            if page["status"] != "running":
                row = self.session(session_id)
        return row

    def _call(self, method: str, path: str, body: Json | None = None, headers: dict[str, str] | None = None) -> Json:
        for pause_s in (*RETRY_S, None):
            try:
                return self._once(method, path, body, headers or {})
            except ApiError as error:
                if error.status != 503 or pause_s is None:
                    raise
            except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
                why = f"{self._url} does not answer: {getattr(error, 'reason', error)}"
                if pause_s is None:
                    raise Unreachable(why) from error
                if pause_s == RETRY_S[0]:
                    self._on_retry(f"{why}; trying for {sum(RETRY_S):.0f} s")
            self._sleep(pause_s)
        raise AssertionError("unreachable")

    def _once(self, method: str, path: str, body: Json | None, headers: dict[str, str]) -> Json:
        data = None if body is None else json.dumps(body).encode()
        sent = dict(headers)
        if data is not None:
            sent["Content-Type"] = "application/json"
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self._url + path, data, sent, method=method)  # noqa: S310 - the user's URL
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S + 10) as response:  # noqa: S310
                return json.loads(response.read() or b"{}")  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            with error:
                raise _api_error(error) from error


def _api_error(error: urllib.error.HTTPError) -> ApiError:
    try:
        problem = json.loads(error.read())
        return ApiError(error.code, problem["code"], problem["detail"])
    except (ValueError, KeyError, TypeError):
        return ApiError(error.code, "http_error", f"the server answered {error.code}")


def _quoted(session_id: str) -> str:
    return urllib.parse.quote(session_id, safe="")
