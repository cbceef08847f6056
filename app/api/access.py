"""Who calls: the owner of what a request may see."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from flask import request

from app.access import LOCAL_OWNER, owner_of

from ..errors import Unauthorized
from .services import services


def owner() -> str:
    """The owner that this request speaks for.

    Raises:
        Unauthorized: no valid token; or, where no secret is configured, a caller from another host.
    """
    secret = services().settings.chat_secret
    if secret:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("send a token: Authorization: Bearer …")
        return owner_of(secret, token.strip())
    # The host name must be local, too: a proxy on this machine and a rebound foreign name also come from loopback.
    if not _is_loopback(request.remote_addr) or not _is_local_name(request.host):
        raise Unauthorized("without CHAT_SECRET only loopback is served")
    return LOCAL_OWNER


def _is_local_name(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        # A unix socket has no address: its folder's permissions decide.
        return not address
