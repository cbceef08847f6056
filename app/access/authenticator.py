"""From a token to who calls."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from app.errors import Unauthorized

from . import tokens
from .principal import Principal
from .revocations import Revocations

#: Longer ones are garbage, or work for whoever checks them.
LONGEST_TOKEN = 4096
_REMEMBERED = 4096


class Authenticator:
    """Checks tokens; made once in a web process.

    Args:
        now: Seconds since 1970.
    """

    def __init__(self, secret: str, revocations: Revocations, *, now: Callable[[], float] = time.time) -> None:
        self._revocations = revocations
        self._now = now
        # What a token says never changes: only those that are none are checked again and again.
        self._verify = functools.lru_cache(maxsize=_REMEMBERED)(functools.partial(tokens.verify, secret))

    def principal(self, token: str) -> Principal:
        """Whom *token* speaks for.

        Raises:
            Unauthorized: it is not valid, has expired, or was revoked.
            DatabaseUnavailable: nothing is known of revocations yet.
        """
        if len(token) > LONGEST_TOKEN:
            raise Unauthorized("the token is not valid")
        principal = self._verify(token)
        if principal.expires is not None and principal.expires <= self._now():
            raise Unauthorized("the token has expired")
        if self._revocations.covers(principal):
            raise Unauthorized("the token was revoked")
        return principal
