"""The HTTP transport under the openai SDK: aiohttp below, merged deltas above.

A stream's first delta passes at once. From then on the transport leaves what arrives in the socket for a moment,
reads all of it in one go and merges it (`sse_merge`). That spares the SDK, the engine and the loop
the work for each single token, which decides how many sessions a process can hold.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import time
from collections.abc import AsyncIterator, Callable
from functools import cache
from urllib.request import getproxies

import aiohttp
import httpx2

from worker.orchestrator import TurnFailed

from . import sse_frames
from .optional_parameters import REFUSING, OptionalParameters
from .sse_frames import EventTooLarge
from .sse_merge import SseMerger
from .whole_answers import SPACE, not_a_stream, whole_answer

#: Moments for which deltas are gathered: while the loop has time, and at most.
SHORTEST_S = 0.1
LONGEST_S = 0.5
#: How often the load is looked at.
_SAMPLE_S = 0.25
#: Share of one core above which the moment grows, and below which it shrinks.
_BUSY, _IDLE = 0.25, 0.12
#: Growing faster than shrinking: a burst of new sessions is answered at once, and nothing swings.
_GROWTH, _SHRINKAGE = 1.6, 1.4
#: So much at once is worth its work: waiting for more would only hold the server up.
_PLENTY_BYTES = 32 * 1024
_LARGE_BODY_BYTES = 512 * 1024
_OWN_HEADERS = frozenset({"accept-encoding", "content-length"})


class Pace:
    """How long deltas are gathered, for all streams of a loop: the busier it is, the longer.

    Busy is the share of a core that the loop's thread used, or a pause that ended late (other processes need
    the machine as well).
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, cpu_time: Callable[[], float] = time.thread_time
    ) -> None:
        self._clock, self._cpu_time = clock, cpu_time
        self.pause_s = SHORTEST_S
        self._late_s = 0.0
        self._since, self._cpu_since = clock(), cpu_time()

    def slept(self, planned_s: float, took_s: float) -> None:
        """Tell how long a pause really took, and adapt."""
        self._late_s = max(self._late_s, took_s - planned_s)
        now = self._clock()
        passed = now - self._since
        if passed < _SAMPLE_S:
            return
        cpu = self._cpu_time()
        busy = (cpu - self._cpu_since) / passed
        if busy > _BUSY or self._late_s > self.pause_s:
            self.pause_s = min(self.pause_s * _GROWTH, LONGEST_S)
        elif busy < _IDLE:
            self.pause_s = max(self.pause_s / _SHRINKAGE, SHORTEST_S)
        self._since, self._cpu_since, self._late_s = now, cpu, 0.0


class ModelTransport(httpx2.AsyncBaseTransport):
    """Sends the SDK's requests with aiohttp; one for a process, with a pool as large as its sessions need."""

    def __init__(self, keep_alive_s: float) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._keep_alive_s = keep_alive_s
        self._parameters = OptionalParameters()
        self.pace = Pace()

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No limit: the number of sessions is one already, and a waiting session would look like a slow model.
            connector = aiohttp.TCPConnector(limit=0, ssl=_trusted())
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                # It has proxies from the environment, but also reads ~/.netrc anew for each request.
                trust_env=bool(getproxies()),
                skip_auto_headers=["User-Agent"],
            )
        return self._session

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send *request*; the response streams.

        Raises:
            httpx2.TransportError: the server can't be reached, or went silent.
        """
        body = await request.aread()
        url = str(request.url)
        response = await self._send(request, self._parameters.without_refused(url, body))
        if response.status in REFUSING:
            said = await _read(response, request)
            refusal = self._parameters.named(url, body, said)
            if refusal is None:
                return _whole(response, request, said)
            response = await self._send(request, refusal.body)
            if response.status < 300:
                self._parameters.remember(refusal)
        if response.status >= 300:
            return _whole(response, request, await _read(response, request))
        return httpx2.Response(
            response.status,
            headers=_headers(response),
            stream=_Stream(response, self.pace, request, self._keep_alive_s),
            request=request,
            extensions={"http_version": b"HTTP/1.1"},
        )

    async def _send(self, request: httpx2.Request, body: bytes) -> aiohttp.ClientResponse:
        timeout = request.extensions.get("timeout", {})
        headers = [(name, value) for name, value in request.headers.multi_items() if name.lower() not in _OWN_HEADERS]
        try:
            return await self._connected().request(
                request.method,
                str(request.url),
                # Compressing single tokens costs both sides more than it saves.
                headers=[*headers, ("Accept-Encoding", "identity")],
                # aiohttp warns of large bodies that are bytes, and reads files on a thread: too dear for small ones.
                data=body if len(body) < _LARGE_BODY_BYTES else io.BytesIO(body),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=timeout.get("connect"), sock_read=timeout.get("read")
                ),
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _as_httpx(error, request) from error

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


@cache
def _trusted() -> ssl.SSLContext:
    """Reading the certificates takes a good part of what starting an engine takes."""
    return httpx2.create_ssl_context()


def _headers(response: aiohttp.ClientResponse) -> list[tuple[str, str]]:
    # aiohttp has undone both already.
    return [h for h in response.headers.items() if h[0].lower() not in ("content-encoding", "transfer-encoding")]


def _whole(response: aiohttp.ClientResponse, request: httpx2.Request, body: bytes) -> httpx2.Response:
    headers = [header for header in _headers(response) if header[0].lower() != "content-length"]
    return httpx2.Response(response.status, headers=headers, content=body, request=request)


async def _read(response: aiohttp.ClientResponse, request: httpx2.Request) -> bytes:
    """What a server says instead of an answer."""
    body = b""
    try:
        while len(body) < _LARGE_BODY_BYTES and (data := await response.content.readany()):
            body += data
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _as_httpx(error, request) from error
    finally:
        if not response.content.at_eof():
            response.close()
    return body


class _Stream(httpx2.AsyncByteStream):
    """The body of one answer, merged."""

    def __init__(
        self, response: aiohttp.ClientResponse, pace: Pace, request: httpx2.Request, keep_alive_s: float
    ) -> None:
        self._response = response
        self._pace = pace
        self._request = request
        self._keep_alive_s = keep_alive_s
        self._longest_pause_s = (request.extensions.get("timeout", {}).get("read") or LONGEST_S * 2) / 2

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for merged in self._merged():
                yield merged
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _as_httpx(error, self._request) from error
        except EventTooLarge as error:
            # No fault of the connection: the same would come again.
            limit = sse_frames.MAX_EVENT_BYTES
            raise TurnFailed(
                "answer_too_large", f"A piece of the model's answer is larger than {limit} bytes."
            ) from error

    async def _merged(self) -> AsyncIterator[bytes]:
        content = self._response.content
        merger = SseMerger()
        data = await self._beginning()
        if not_a_stream(data):
            while more := await content.readany():
                data += more
                if len(data) > sse_frames.MAX_EVENT_BYTES:
                    raise EventTooLarge
            yield merger.whole(whole_answer(data))
            return
        moved_at = time.monotonic()
        while data:
            if merged := merger.feed(data):
                yield merged
            now = time.monotonic()
            if merger.moved:
                moved_at = now
            elif now - moved_at > self._keep_alive_s:
                raise httpx2.ReadTimeout("nothing but signs of life", request=self._request)
            if merger.spoke and not merger.ended and len(data) < _PLENTY_BYTES:
                await self._pause(self._pace)
            data = await content.readany()
        if merged := merger.finish():
            yield merged
        if merger.spoke and not merger.ended:
            # A proxy that loses its upstream ends the body properly: only the missing end tells.
            raise httpx2.RemoteProtocolError("the stream ended before the answer did", request=self._request)

    async def _beginning(self) -> bytes:
        """The bytes of the body until one tells what it is."""
        data = b""
        while (more := await self._response.content.readany()) and not (data := data + more).strip(SPACE):
            pass
        return data

    async def _pause(self, pace: Pace) -> None:
        """Let deltas gather in the kernel: what does not wake the loop costs nothing."""
        connection = self._response.connection
        if connection is None or connection.transport is None:
            return
        # Longer, and the timeout of the socket could not tell this pause from a silent server.
        pause_s = min(pace.pause_s, self._longest_pause_s)
        transport = connection.transport
        started = time.monotonic()
        transport.pause_reading()
        try:
            await asyncio.sleep(pause_s)
        finally:
            transport.resume_reading()
        pace.slept(pause_s, time.monotonic() - started)

    async def aclose(self) -> None:
        # Closes the connection unless the body was read to its end: that is what stops the model.
        self._response.close()


def _as_httpx(error: Exception, request: httpx2.Request) -> httpx2.TransportError:
    """The same trouble in the words that the SDK knows."""
    text = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return httpx2.ConnectTimeout(text, request=request)
    if isinstance(error, TimeoutError):
        return httpx2.ReadTimeout(text, request=request)
    if isinstance(error, aiohttp.ClientConnectorError):
        return httpx2.ConnectError(text, request=request)
    return httpx2.ReadError(text, request=request)
