"""What MCP servers answer, as the client reads it: sloppy answers mended, and all content text or a picture."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

from mcp_types.version import OLDEST_SUPPORTED_VERSION

from worker.engine.whole_text import whole

from .schemas import Unusable, usable_schema

#: A server may list this many tools, on this many pages.
MAX_TOOLS = 1_000
MAX_PAGES = 100
MAX_NAME_CHARS = 500
MAX_DESCRIPTION_CHARS = 20_000
#: A larger picture is told, and not shown to the model.
MAX_PICTURE_BYTES = 5 * 1024 * 1024

_PICTURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))

#: Is told a tool's name, what was done with it, and why.
Tell = Callable[[str, str, str], None]


def mended(method: str, result: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """The *result* of a request such that the client can read it."""
    if method == "initialize":
        return _initialized(result)
    if method == "tools/list":
        return _listed(result, tell)
    if method == "tools/call" and result.get("resultType", "complete") == "complete":
        return _called(result)
    return result


def _initialized(result: dict[str, Any]) -> dict[str, Any]:
    info = result.get("serverInfo")
    known = info if isinstance(info, dict) else {}
    capabilities = result.get("capabilities")
    version = result.get("protocolVersion")
    return {
        "protocolVersion": version if isinstance(version, str) else OLDEST_SUPPORTED_VERSION,
        # Nobody reads them here, and an odd one would be refused.
        "capabilities": {"tools": {}} if not isinstance(capabilities, dict) or "tools" in capabilities else {},
        "serverInfo": {"name": str(known.get("name", "")), "version": str(known.get("version", ""))},
    }


def _listed(result: dict[str, Any], tell: Tell) -> dict[str, Any]:
    given = result.get("tools")
    tools, names = [], set()
    for tool in given if isinstance(given, list) else []:
        try:
            usable = _tool(tool, tell)
            if usable["name"] in names:
                raise Unusable("the server lists it twice")
        except Unusable as reason:
            name = tool.get("name") if isinstance(tool, dict) else None
            tell(str(whole(name)) if isinstance(name, str) else "", "left out", str(reason))
            continue
        names.add(usable["name"])
        tools.append(usable)
    cursor = result.get("nextCursor")
    return _kept(result) | {"tools": tools} | ({"nextCursor": cursor} if isinstance(cursor, str) and cursor else {})


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    """What newer versions of the protocol add to every result."""
    return {key: result[key] for key in ("resultType", "ttlMs", "cacheScope") if key in result}


def _tool(given: object, tell: Tell) -> dict[str, Any]:
    """Raises: Unusable."""
    if not isinstance(given, dict):
        raise Unusable("it is no object")
    name, description, meta = given.get("name"), given.get("description"), given.get("_meta")
    if not isinstance(name, str) or not name.strip():
        raise Unusable("it has no name")
    if name != whole(name) or len(name) > MAX_NAME_CHARS:
        raise Unusable("its name can't be written")
    schema, changed = usable_schema(given.get("inputSchema"))
    if changed:
        tell(name, "got another schema", ", ".join(changed[:5]))
    tool: dict[str, Any] = {"name": name, "inputSchema": schema}
    if isinstance(description, str):
        tool["description"] = str(whole(description))[:MAX_DESCRIPTION_CHARS]
    if isinstance(meta, dict):
        tool["_meta"] = whole(meta)
    # An output schema is left out: a result that breaks it is still one that the model can read.
    return tool


def _called(result: dict[str, Any]) -> dict[str, Any]:
    content = result.get("content")
    blocks = content if isinstance(content, list) else [] if content is None else [content]
    structured = result.get("structuredContent")
    if isinstance(structured, dict) and structured.keys() == {"result"}:
        # What is no object is wrapped by servers.
        structured = structured["result"]
    failed = result.get("isError") is True or result.get("isError") in ("true", 1)
    if structured is not None and all(isinstance(block, dict) and block.get("type") == "text" for block in blocks):
        # The blocks only repeat it.
        blocks = [structured if isinstance(structured, str) else _as_text(structured)]
    return _kept(result) | {"content": [_block(block) for block in blocks], "isError": failed}


def _as_text(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "[content that is nested too deeply]"


def _block(block: object) -> dict[str, Any]:
    """A block of content: text or a picture as it is, of everything else a note."""
    if not isinstance(block, dict):
        return _text(block if isinstance(block, str) else _as_text(block))
    kind = block.get("type")
    if kind == "text" or (kind is None and "text" in block):
        text = block.get("text")
        return _text(text if isinstance(text, str) else "" if text is None else _as_text(text))
    if kind in ("image", "audio"):
        return _media(block.get("data"), block.get("mimeType"), str(kind))
    if kind == "resource_link":
        return _text(_note("link to", block.get("title") or block.get("name"), block, block.get("size")))
    if kind == "resource" and isinstance(inside := block.get("resource"), dict):
        if isinstance(inside.get("text"), str):
            return _text(inside["text"])
        return _media(inside.get("blob"), inside.get("mimeType"), "file", inside.get("uri"))
    return _text(f"[content of the unknown kind {str(kind)[:100]}, {len(_as_text(block))} bytes]")


def _note(what: str, name: object, block: dict[str, Any], size: object) -> str:
    known = [str(block["mimeType"])] if isinstance(block.get("mimeType"), str) else []
    known += [f"{size} bytes"] if isinstance(size, int) else []
    title = f"{what} {name}" if isinstance(name, str) and name else what
    about = f" ({', '.join(known)})" if known else ""
    return f"[{title}{about}: {block.get('uri')}]"


def _media(encoded: object, kind: object, fallback: str, uri: object = None) -> dict[str, Any]:
    """A picture that models take as it is; of anything else a note of its kind and size."""
    named = kind if isinstance(kind, str) and kind else fallback
    text = encoded if isinstance(encoded, str) else ""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    text = "".join(text.split()).translate(_URL_SAFE)
    note, size = "", len(text) * 3 // 4
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        note = ", can't be read"
    else:
        size, picture = len(data), _picture(data)
        if picture and size <= MAX_PICTURE_BYTES:
            return {"type": "image", "data": base64.b64encode(data).decode(), "mimeType": picture}
    where = f": {uri}" if isinstance(uri, str) and uri else ""
    return _text(f"[{named}, {size} bytes{note}{where}]")


_URL_SAFE = str.maketrans("-_", "+/")


def _picture(data: bytes) -> str | None:
    """The media type of a picture that models take: a provider refuses a request with another one."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in _PICTURES if data.startswith(start)), None)


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": str(whole(text))}
