"""A scripted OpenAI-compatible server: says what a test wrote down, over real HTTP.

    python -m tests.model_server --port 0 --processes 2     # prints its port, ends when its stdin closes

    with ModelServer.start() as server:
        model = server.add({"answers": [{"steps": [{"text": "Hel"}, {"text": "lo"}]}]})
        ...                                  # a client asks server.url for the model `model`
        server.requests(model)               # what the model received, and how each request ended

A script lists one answer for each model request of a turn. The n-th is chosen by counting what the assistant
said since the last user message, so retries, resumed turns and other processes get the same answer. Keys of an answer:

- `steps`: in order, any of
    `{"text": s}` · `{"reasoning": s}` · `{"delay": seconds}` ·
    `{"tool": {"index", "id", "name", "arguments"}}` (a fragment; `{n}` in an id is the number of the answer) ·
    `{"echo": "tool"}` (says the results of the last tool calls) · `{"echo": "user"}` ·
    `{"repeat": {"text": s, "count": n, "every": seconds}}` (`{i}` in the text counts) ·
    `{"until_released": {"text": s, "every": seconds}}` (says it again and again, until `release(model)`) ·
    `{"hold": true}` (until `release(model)`) · `{"stall": true}` · `{"cut": true}` (the connection breaks) ·
    `{"raw": s}` (bytes of SSE as they are)
- `no_end`: true: the stream ends without a finish reason; `cut_off`: true: it ends at the limit of the model's output
- `usage`: `{"prompt_tokens", "completion_tokens", "cached_tokens"}`; null: none is sent
- `split`: bytes of the stream that leave in one piece, so that a character may be cut in two
- `fault`: `{"status": 429, "headers": {...}, "body": ..., "times": k}` instead, on the first k tries (absent: always);
  `{"cut": true}` breaks the connection before any answer, `{"stall": true}` never answers

Keys of a script: `answers`, `loop` (the last answer for ever), `record` (false: requests are not written down).
Chat completions and responses are served, streaming or whole. State lies in a folder that all processes share.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

#: Pause between two pieces of a split stream: long enough that the client reads them apart.
SPLIT_PAUSE_S = 0.001
#: Between two looks whether a held stream may go on.
HOLD_PAUSE_S = 0.02
CREATED = 1_700_000_000


class ModelServer:
    """The server as a process of its own, with its controls."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self.port = port
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"

    @classmethod
    @contextlib.contextmanager
    def start(cls, processes: int = 1) -> Iterator[ModelServer]:
        """Run it on a free port until the context ends."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.model_server", "--port", "0", "--processes", str(processes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the model server ended with {process.wait()}")
            yield cls(process, int(line))
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()

    def add(self, script: dict[str, Any]) -> str:
        """Register *script*; its id is the model name to ask for."""
        return str(self._call("POST", "/scripts", script)["id"])

    def release(self, model: str) -> None:
        """Let the answers of *model* go on where they hold, now and later."""
        self._call("POST", f"/release?model={model}")

    def requests(self, model: str) -> list[dict[str, Any]]:
        """What came for *model*, oldest first: `at`, `path`, `authorization`, `body`, `closed_at`, `how`.

        `how` is `complete`, `client_closed`, `cut`, `fault` or null while it runs. Times are `time.time()`.
        """
        return list(self._call("GET", f"/requests?model={model}")["requests"])

    def wait_closed(self, model: str, count: int = 1, timeout_s: float = 5.0) -> list[dict[str, Any]]:
        """Wait until *count* requests for *model* have ended; returns them."""
        deadline = time.monotonic() + timeout_s
        while True:
            ended = [request for request in self.requests(model) if request["how"]]
            if len(ended) >= count:
                return ended
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(ended)} of {count} requests for {model} have ended")
            time.sleep(0.02)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read())


class _State:
    """Scripts, records and counts of tries, as files that all processes share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._scripts: dict[str, dict[str, Any]] = {}
        self._records = (folder / f"requests-{os.getpid()}.jsonl").open("a", encoding="utf-8")

    def add_script(self, script: dict[str, Any]) -> str:
        name = f"script-{secrets.token_hex(6)}"
        temporary = self.folder / f".{name}"
        temporary.write_text(json.dumps(script))
        temporary.rename(self.folder / f"{name}.json")
        return name

    def script(self, name: str) -> dict[str, Any] | None:
        if name not in self._scripts:
            path = self.folder / f"{name}.json"
            if not name.startswith("script-") or not path.is_file():
                return None
            self._scripts[name] = json.loads(path.read_text())
        return self._scripts[name]

    def release(self, name: str) -> None:
        (self.folder / f"released-{name}").touch()

    def is_released(self, name: str) -> bool:
        return (self.folder / f"released-{name}").exists()

    async def released(self, name: str) -> None:
        while not self.is_released(name):
            await asyncio.sleep(HOLD_PAUSE_S)

    def next_try(self, key: str) -> int:
        """1 for the first try under *key*, then 2, … in all processes together."""
        with (self.folder / f"tries-{hashlib.sha256(key.encode()).hexdigest()}").open("ab") as file:
            file.write(b".")
            file.flush()
            return file.tell()

    def record(self, entry: dict[str, Any]) -> None:
        self._records.write(json.dumps(entry) + "\n")
        self._records.flush()

    def records(self, model: str) -> list[dict[str, Any]]:
        entries: dict[str, dict[str, Any]] = {}
        for file in self.folder.glob("requests-*.jsonl"):
            for line in file.read_text("utf-8").splitlines():
                entry = json.loads(line)
                entries.setdefault(entry["id"], {"closed_at": None, "how": None}).update(entry)
        return sorted((e for e in entries.values() if e["model"] == model), key=lambda e: e["at"])


class _Asked:
    """What one request asks for, in either of the two APIs."""

    def __init__(self, path: str, body: dict[str, Any]) -> None:
        self.chat = path.endswith("/chat/completions")
        self.stream = bool(body.get("stream"))
        self.usage_wanted = not self.chat or bool((body.get("stream_options") or {}).get("include_usage"))
        items = body.get("messages") if self.chat else body.get("input")
        if isinstance(items, str):
            items = [{"role": "user", "content": items}]
        self.items: list[dict[str, Any]] = items or []
        last_user = max((n for n, item in enumerate(self.items) if item.get("role") == "user"), default=-1)
        self.user = _text(self.items[last_user].get("content")) if last_user >= 0 else ""
        since = self.items[last_user + 1 :]
        if self.chat:
            self.answer = sum(item.get("role") == "assistant" for item in since)
        else:
            results = [item.get("type") == "function_call_output" for item in since]
            # What the assistant said in one answer is a run of items; results of its calls end it.
            self.answer = sum(not now and (n == 0 or results[n - 1]) for n, now in enumerate(results))
        self.tool_results: list[str] = []
        for item in reversed(since):
            if item.get("role") == "tool":
                self.tool_results.insert(0, _text(item.get("content")))
            elif item.get("type") == "function_call_output":
                self.tool_results.insert(0, _text(item.get("output")))
            else:
                break


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return str(content or "")


#: One step of a compiled answer: wait, then send, then (maybe) break.
_Step = tuple[float, bytes]


class _Again(bytes):
    """A piece that is sent again and again, until the model is released."""


class _Chat:
    """Chat completions on the wire."""

    def __init__(self, model: str) -> None:
        self._head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": CREATED, "model": model}
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._tools: list[dict[str, Any]] = []

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _sse({**self._head, "choices": [choice], "usage": None})

    def start(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, text: str) -> bytes:
        self._texts.append(text)
        return self._chunk({"content": text})

    def reasoning(self, text: str) -> bytes:
        self._reasoning.append(text)
        return self._chunk({"reasoning_content": text})

    def tool(self, index: int, call_id: str | None, name: str | None, arguments: str) -> bytes:
        function = {"arguments": arguments} | ({"name": name} if name else {})
        if call_id:
            self._tools.append({"id": call_id, "type": "function", "function": dict(function)})
        else:
            self._tools[index]["function"]["arguments"] += arguments
        fragment = {"index": index, "function": function} | ({"id": call_id, "type": "function"} if call_id else {})
        return self._chunk({"tool_calls": [fragment]})

    def usage(self, usage: dict[str, int]) -> dict[str, Any]:
        prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": usage.get("cached_tokens", 0)},
        }

    def end(self, usage: dict[str, int] | None, usage_wanted: bool, cut_off: bool) -> bytes:
        out = self._chunk({}, "length" if cut_off else "tool_calls" if self._tools else "stop")
        if usage is not None and usage_wanted:
            out += _sse({**self._head, "choices": [], "usage": self.usage(usage)})
        return out + b"data: [DONE]\n\n"

    def whole_answer(self, usage: dict[str, int] | None) -> dict[str, Any]:
        finish = "tool_calls" if self._tools else "stop"
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._texts) or None}
        message |= {"reasoning_content": "".join(self._reasoning)} if self._reasoning else {}
        message |= {"tool_calls": self._tools} if self._tools else {}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        answer = {**self._head, "object": "chat.completion", "choices": [choice]}
        return answer | ({} if usage is None else {"usage": self.usage(usage)})


class _Responses:
    """The responses API on the wire."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._sequence = 0
        self._items: list[dict[str, Any]] = []
        self._open: int | None = None
        self._calls: dict[int, int] = {}

    def _event(self, kind: str, **fields: Any) -> bytes:
        body = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return f"event: {kind}\n".encode() + _sse(body)

    def _response(self, status: str, usage: dict[str, int] | None = None) -> dict[str, Any]:
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": CREATED,
            "model": self._model,
            "status": status,
            "output": self._items if status == "completed" else [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": None if usage is None else self.usage(usage),
        }

    def usage(self, usage: dict[str, int]) -> dict[str, Any]:
        prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": usage.get("cached_tokens", 0)},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
        }

    def start(self) -> bytes:
        return self._event("response.created", response=self._response("in_progress"))

    def _switch(self, kind: str) -> bytes:
        """Close the open item and open one of *kind*, unless it is open already."""
        if self._open is not None and self._items[self._open]["type"] == kind:
            return b""
        out = self._close()
        index = self._open = len(self._items)
        item: dict[str, Any] = {"id": f"{kind}_{index}", "type": kind, "status": "in_progress"}
        where = {"item_id": item["id"], "output_index": index}
        if kind == "message":
            item |= {"role": "assistant", "content": []}
            part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": []}
            opened = self._event("response.content_part.added", **where, content_index=0, part=part)
        else:
            item |= {"summary": []}
            part = {"type": "summary_text", "text": ""}
            opened = self._event("response.reasoning_summary_part.added", **where, summary_index=0, part=part)
        self._items.append(item)
        return out + self._event("response.output_item.added", output_index=index, item=item) + opened

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        item, index = self._items[self._open], self._open
        self._open = None
        item["status"] = "completed"
        return self._event("response.output_item.done", output_index=index, item=item)

    def text(self, text: str) -> bytes:
        out = self._switch("message")
        item = self._items[-1]
        item["content"] = item["content"] or [{"type": "output_text", "text": "", "annotations": []}]
        item["content"][0]["text"] += text
        where = {"item_id": item["id"], "output_index": len(self._items) - 1, "content_index": 0}
        return out + self._event("response.output_text.delta", **where, delta=text, logprobs=[])

    def reasoning(self, text: str) -> bytes:
        out = self._switch("reasoning")
        item = self._items[-1]
        item["summary"] = item["summary"] or [{"type": "summary_text", "text": ""}]
        item["summary"][0]["text"] += text
        where = {"item_id": item["id"], "output_index": len(self._items) - 1, "summary_index": 0}
        return out + self._event("response.reasoning_summary_text.delta", **where, delta=text)

    def tool(self, index: int, call_id: str | None, name: str | None, arguments: str) -> bytes:
        out = self._close()
        if call_id:
            position = self._calls[index] = len(self._items)
            item = {"id": f"fc_{position}", "type": "function_call", "call_id": call_id, "name": name, "arguments": ""}
            self._items.append(item)
            out += self._event("response.output_item.added", output_index=position, item=item)
        position = self._calls[index]
        item = self._items[position]
        item["arguments"] += arguments
        where = {"item_id": item["id"], "output_index": position}
        return out + self._event("response.function_call_arguments.delta", **where, delta=arguments)

    def end(self, usage: dict[str, int] | None, usage_wanted: bool, cut_off: bool) -> bytes:
        out = self._close()
        for position in self._calls.values():
            item = self._items[position]
            where = {"item_id": item["id"], "output_index": position}
            name, arguments = item["name"], item["arguments"]
            out += self._event("response.function_call_arguments.done", **where, name=name, arguments=arguments)
            out += self._event("response.output_item.done", output_index=position, item=item)
        if cut_off:
            why = {"incomplete_details": {"reason": "max_output_tokens"}}
            return out + self._event("response.incomplete", response=self._response("incomplete", usage) | why)
        return out + self._event("response.completed", response=self._response("completed", usage))

    def whole_answer(self, usage: dict[str, int] | None) -> dict[str, Any]:
        self._close()
        return self._response("completed", usage)


def _sse(body: dict[str, Any]) -> bytes:
    # Not ASCII: characters of several bytes must be on the wire to be cut in two.
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


_STALL = b"\0stall"
_HOLD = b"\0hold"
_CUT = b"\0cut"


def _compile(wire: _Chat | _Responses, answer: dict[str, Any], asked: _Asked) -> list[_Step]:
    """The answer as bytes and pauses."""
    out: list[_Step] = [(0.0, wire.start())]
    wait = 0.0

    def send(piece: bytes) -> None:
        nonlocal wait
        out.append((wait, piece))
        wait = 0.0

    for step in answer.get("steps", []):
        if "delay" in step:
            wait += step["delay"]
        elif "text" in step:
            send(wire.text(step["text"]))
        elif "reasoning" in step:
            send(wire.reasoning(step["reasoning"]))
        elif "echo" in step:
            send(wire.text("|".join(asked.tool_results) if step["echo"] == "tool" else asked.user))
        elif "tool" in step:
            tool = step["tool"]
            call_id = tool["id"].replace("{n}", str(asked.answer)) if "id" in tool else None
            send(wire.tool(tool.get("index", 0), call_id, tool.get("name"), tool.get("arguments", "")))
        elif "repeat" in step:
            for i in range(step["repeat"]["count"]):
                wait += step["repeat"]["every"]
                send(wire.text(step["repeat"]["text"].replace("{i}", str(i))))
        elif "until_released" in step:
            wait += step["until_released"]["every"]
            send(_Again(wire.text(step["until_released"]["text"])))
        elif "raw" in step:
            send(step["raw"].encode())
        elif "hold" in step:
            send(_HOLD)
        elif "stall" in step:
            send(_STALL)
        elif "cut" in step:
            send(_CUT)
        else:
            raise web.HTTPBadRequest(text=f"unknown step {step}")
    if not answer.get("no_end"):
        send(wire.end(_usage(answer), asked.usage_wanted, bool(answer.get("cut_off"))))
    return out


def _usage(answer: dict[str, Any]) -> dict[str, int] | None:
    default = {"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 0}
    usage = answer.get("usage", default)
    return None if usage is None else default | usage


class _Handlers:
    def __init__(self, state: _State) -> None:
        self._state = state
        # Streams of load tests are the same bytes each time: compiled once.
        self._compiled: dict[tuple[str, bool, int], list[_Step]] = {}

    async def add(self, request: web.Request) -> web.Response:
        return web.json_response({"id": self._state.add_script(await request.json())})

    async def release(self, request: web.Request) -> web.Response:
        self._state.release(request.query["model"])
        return web.json_response({})

    async def requests(self, request: web.Request) -> web.Response:
        return web.json_response({"requests": self._state.records(request.query["model"])})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        model = str(body.get("model"))
        script = self._state.script(model)
        if script is None:
            error = {"message": f"no model {model}", "code": "model_not_found", "type": "invalid_request_error"}
            return web.json_response({"error": error}, status=404)
        recorded = script.get("record", True)
        entry = {"id": secrets.token_hex(8), "model": model, "at": time.time(), "path": request.path}
        if recorded:
            self._state.record(
                {
                    **entry,
                    "authorization": request.headers.get("Authorization"),
                    "body": body,
                    "peer": request.transport.get_extra_info("peername") if request.transport else None,
                }
            )
        how = "client_closed"
        try:
            response, how = await self._answer(request, model, script, _Asked(request.path, body))
            return response
        except ConnectionError:
            return web.Response()
        finally:
            if recorded:
                self._state.record({**entry, "closed_at": time.time(), "how": how})

    async def _answer(
        self, request: web.Request, model: str, script: dict[str, Any], asked: _Asked
    ) -> tuple[web.StreamResponse, str]:
        answers = script["answers"]
        number = min(asked.answer, len(answers) - 1) if script.get("loop") else asked.answer
        if number >= len(answers):
            error = {"message": f"the script has no answer {number}", "type": "invalid_request_error"}
            return web.json_response({"error": error}, status=400), "fault"
        answer = answers[number]
        fault = answer.get("fault")
        if fault:
            tries = self._state.next_try(f"{model} {number} {json.dumps(asked.items, sort_keys=True)}")
            if tries <= fault.get("times", sys.maxsize):
                return await self._fail(request, fault), "fault"
        wire = _Chat(model) if asked.chat else _Responses(model)
        if not asked.stream:
            steps = _compile(wire, answer, asked)
            await asyncio.sleep(sum(wait for wait, _ in steps))
            if any(piece is _HOLD for _, piece in steps):
                await self._state.released(model)
            return web.json_response(wire.whole_answer(_usage(answer))), "complete"
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        split = answer.get("split", 0)
        loop = asyncio.get_running_loop()
        due = loop.time()
        for wait, piece in self._steps(model, number, answer, asked, wire):
            if wait:
                # Against the clock, so that a stream lasts as long as its script says.
                due += wait
                await asyncio.sleep(due - loop.time())
            if isinstance(piece, _Again):
                while not self._state.is_released(model):
                    await response.write(piece)
                    due += wait
                    await asyncio.sleep(due - loop.time())
            elif piece is _HOLD:
                await self._state.released(model)
                due = loop.time()
            elif piece is _STALL:
                await asyncio.Event().wait()
            elif piece is _CUT:
                assert request.transport is not None
                request.transport.close()
                return response, "cut"
            elif split:
                for start in range(0, len(piece), split):
                    await response.write(piece[start : start + split])
                    await asyncio.sleep(SPLIT_PAUSE_S)
            else:
                await response.write(piece)
        await response.write_eof()
        return response, "complete"

    def _steps(
        self, model: str, number: int, answer: dict[str, Any], asked: _Asked, wire: _Chat | _Responses
    ) -> list[_Step]:
        depends = any("echo" in step or "{n}" in step.get("tool", {}).get("id", "") for step in answer.get("steps", []))
        if depends or not asked.usage_wanted:
            return _compile(wire, answer, asked)
        key = (model, asked.chat, number)
        if key not in self._compiled:
            self._compiled[key] = _compile(wire, answer, asked)
        return self._compiled[key]

    @staticmethod
    async def _fail(request: web.Request, fault: dict[str, Any]) -> web.StreamResponse:
        if "stall" in fault:
            await asyncio.Event().wait()
        if "cut" in fault:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        error = {"message": f"scripted {fault['status']}", "type": "scripted", "code": None}
        body = fault.get("body", {"error": error})
        return web.json_response(body, status=fault["status"], headers=fault.get("headers"))


async def _serve(sock: socket.socket, folder: Path, announce: bool) -> None:
    handlers = _Handlers(_State(folder))
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/scripts", handlers.add)
    app.router.add_post("/release", handlers.release)
    app.router.add_get("/requests", handlers.requests)
    app.router.add_post("/v1/chat/completions", handlers.answer)
    app.router.add_post("/v1/responses", handlers.answer)
    # A handler is cancelled when its client goes away: that is what the records of cancelled turns rest on.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, sock, backlog=1024).start()
    if announce:
        print(sock.getsockname()[1], flush=True)
    else:
        print("ready", flush=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    # Whoever started it holds the other end: when that one dies, however it dies, this ends too.
    loop.add_reader(sys.stdin.fileno(), lambda: os.read(sys.stdin.fileno(), 1024) or stop.set())
    await stop.wait()
    loop.remove_reader(sys.stdin.fileno())
    await runner.cleanup()


def _bind(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def main() -> None:
    parser = argparse.ArgumentParser(description="A scripted OpenAI-compatible server.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        asyncio.run(_serve(_bind(options.port), options.folder, announce=False))
        return
    folder = Path(tempfile.mkdtemp(prefix="model-server-"))
    sock = _bind(options.port)
    port = sock.getsockname()[1]
    children: list[subprocess.Popen[str]] = []
    try:
        for _ in range(options.processes - 1):
            command = [sys.executable, "-m", "tests.model_server", "--port", str(port), "--folder", str(folder)]
            children.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        asyncio.run(_serve(sock, folder, announce=True))
    finally:
        for child in children:
            child.communicate(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
