"""MCP over streamable HTTP: an HTTP client that answers for servers which answer badly, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx2
from mcp_types import INTERNAL_ERROR, ErrorData, JSONRPCError, JSONRPCMessage, JSONRPCResponse

from .messages import Lines, is_heard, read, refusal

#: A server may take this long to accept a notification: requests wait behind it.
NOTIFY_S = 10.0
#: A server may take this long to end its session.
END_S = 2.0
#: Marks the errors that are our words: a server's own may hold secrets.
OURS = "backchat"
_JSON = "application/json"
_EVENTS = "text/event-stream"


class TolerantClient(httpx2.AsyncClient):
    """Makes a failure of the connection or the server the answer to the one request that it belongs to.

    The client of MCP ends the connection of all turns over most failures, and can't read what is not quite JSON.
    """

    def __init__(self, max_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self._max_bytes = max_bytes

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        if request.method == "DELETE":
            async with asyncio.timeout(END_S):
                return await super().send(request, **options)
        if request.method == "GET":
            response = await super().send(request, **options)
            if response.status_code != 200 or _kind(response) != _EVENTS:
                return response
            return _events(response, response.aiter_bytes(), self._max_bytes, None)
        number = _id(request)
        try:
            async with asyncio.timeout(NOTIFY_S if number is None else None):
                response = await super().send(request, **options)
        except (httpx2.HTTPError, TimeoutError) as error:
            return _failed(request, number, _words(error))
        if response.has_redirect_location:
            return response
        if response.status_code >= 400:
            return await self._refused(response, number)
        if number is None or response.status_code == 202:
            return response
        return await self._answered(response, number)

    async def _refused(self, response: httpx2.Response, number: object) -> httpx2.Response:
        body = await self._body(response.aiter_bytes(), response)
        if response.status_code == 404 and "mcp-session-id" in response.request.headers:
            # The client knows what this says: the session is over.
            return httpx2.Response(404, request=response.request)
        if errors := [message for message in read(body or b"") if isinstance(message, JSONRPCError)]:
            return _answer(response, errors, number)
        reason = f" {response.reason_phrase}" if response.reason_phrase else ""
        return _failed(response.request, number, f"The server answered with HTTP {response.status_code}{reason}.")

    async def _answered(self, response: httpx2.Response, number: object) -> httpx2.Response:
        kind = _kind(response)
        chunks: AsyncIterator[bytes] = response.aiter_bytes()
        if kind not in (_JSON, _EVENTS):
            # Some servers say text/plain, or nothing.
            start, chunks = await _peek(chunks)
            kind = _EVENTS if start.startswith((b"event:", b"data:", b"id:", b":")) else kind
        if kind == _EVENTS:
            return _events(response, chunks, self._max_bytes, number)
        body = await self._body(chunks, response)
        if body is None:
            return _failed(
                response.request, number, f"The answer broke off, or is larger than {self._max_bytes} bytes."
            )
        messages = read(body) or refusal(body, "The server's answer is no JSON.")
        if not messages:
            what = kind if body else "nothing"
            return _failed(response.request, number, f"The server answered with {what} in place of a message.")
        return _answer(response, messages, number)

    async def _body(self, chunks: AsyncIterator[bytes], response: httpx2.Response) -> bytes | None:
        """All of the body; None if it broke off or is too large."""
        parts, size = [], 0
        try:
            async for chunk in chunks:
                parts.append(chunk)
                size += len(chunk)
                if size > self._max_bytes:
                    return None
        except httpx2.HTTPError:
            return None
        finally:
            await response.aclose()
        return b"".join(parts)


def _kind(response: httpx2.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _id(request: httpx2.Request) -> object:
    """The id of the request that is posted; None if it is a notification or an answer."""
    message = json.loads(request.content)
    return message.get("id") if "method" in message else None


def _words(error: Exception) -> str:
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)):
        return "The server can't be reached."
    if isinstance(error, (httpx2.TimeoutException, TimeoutError)):
        return "The server did not answer in time."
    return "The connection to the server broke off."


async def _peek(chunks: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """The first of *chunks*, and all of them."""
    try:
        first = await anext(chunks, b"")
    except httpx2.HTTPError:
        first = b""

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return first.lstrip(), whole()


def _failed(request: httpx2.Request, number: object, why: str) -> httpx2.Response:
    if number is None:
        return httpx2.Response(202, request=request)
    error = {"jsonrpc": "2.0", "id": number, "error": {"code": INTERNAL_ERROR, "message": why, "data": OURS}}
    return httpx2.Response(200, json=error, request=request)


def _answer(response: httpx2.Response, messages: Iterable[JSONRPCMessage], number: object) -> httpx2.Response:
    """*messages* as events: one body of JSON holds one message only."""
    if number is None:
        return httpx2.Response(202, request=response.request)
    content = b"".join(map(_event, messages))
    return httpx2.Response(200, headers=_headers(response), content=content, request=response.request)


def _headers(response: httpx2.Response) -> dict[str, str]:
    session = {name: value for name, value in response.headers.items() if name.lower() == "mcp-session-id"}
    return session | {"content-type": _EVENTS}


def _event(message: JSONRPCMessage) -> bytes:
    return b"data: %s\n\n" % message.model_dump_json(by_alias=True, exclude_unset=True).encode()


def _events(response: httpx2.Response, chunks: AsyncIterator[bytes], max_bytes: int, number: object) -> httpx2.Response:
    stream = _Events(response, chunks, max_bytes, number)
    return httpx2.Response(response.status_code, headers=_headers(response), stream=stream, request=response.request)


class _Events(httpx2.AsyncByteStream):
    """Events that the client can read, each with one whole message, or none.

    An answer with another *number* than the request's is only its answer if no other comes.
    """

    def __init__(self, response: httpx2.Response, chunks: AsyncIterator[bytes], max_bytes: int, number: object) -> None:
        self._response = response
        self._chunks = chunks
        self._max_bytes = max_bytes
        self._number = number
        self._aside = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        lines, event, size = Lines(self._max_bytes), list[tuple[bytes, bool]](), 0
        async for chunk in self._chunks:
            for line in lines.feed(chunk):
                size += len(line[0]) + 1
                event.append(line)
                if size > self._max_bytes:
                    event[:] = [(b"data:", True)]
                if not line[0]:
                    yield self._mended(event)
                    event, size = [], 0
        yield self._mended([*event, *lines.flush()]) + self._aside

    def _mended(self, lines: list[tuple[bytes, bool]]) -> bytes:
        fields = [(*line.partition(b":")[::2], too_long) for line, too_long in lines]
        said = [(value.removeprefix(b" "), too_long) for name, value, too_long in fields if name == b"data"]
        data = b"\n".join(value for value, _ in said)
        kept = b"".join(
            b"%s:%s\n" % (name, value) for name, value, too_long in fields if name in (b"id", b"retry") and not too_long
        )
        if any(too_long for _, too_long in said) or len(data) > self._max_bytes:
            why = ErrorData(code=INTERNAL_ERROR, message=f"The answer is larger than {self._max_bytes} bytes.")
            # The client knows whose answer it is.
            return kept + _event(JSONRPCError(jsonrpc="2.0", id=0, error=why))
        messages = read(data) or refusal(data, "The server's answer is no JSON.")
        events = b"".join(_event(message) for message in messages if is_heard(message) and self._is_meant(message))
        return kept + (events or (b"\n" if kept else b""))

    def _is_meant(self, message: JSONRPCMessage) -> bool:
        if not isinstance(message, (JSONRPCError, JSONRPCResponse)) or self._number is None:
            return True
        meant = message.id is None or str(message.id) == str(self._number)
        if not meant:
            self._aside = _event(message)
        return meant

    async def aclose(self) -> None:
        await self._response.aclose()
