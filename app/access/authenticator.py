"""From a token to who calls."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.errors import Unauthorized

from . import tokens
from .principal import Principal
from .revocations import Revocations

if TYPE_CHECKING:
    from .json_web_tokens import JsonWebTokens

#: Longer ones are garbage, or work for whoever checks them.
LONGEST_TOKEN = 8000
_REMEMBERED = 2048


class Authenticator:
    """Checks tokens; made once in a web process.

    Args:
        json_web_tokens: None: macaroons only.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        secret: str,
        revocations: Revocations,
        json_web_tokens: JsonWebTokens | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._json_web_tokens = json_web_tokens
        self._revocations = revocations
        self._now = now
        # What a token says never changes: only those that are none are checked again and again.
        self._verify = functools.lru_cache(maxsize=_REMEMBERED)(functools.partial(tokens.verify, secret))

    def principal(self, token: str) -> Principal:
        """Whom *token* speaks for.

        Raises:
            Unauthorized: it is not valid, has expired, or was revoked.
            DatabaseUnavailable, IssuerUnavailable: nothing is known yet of revocations, or of the issuer's keys.
        """
        if len(token) > LONGEST_TOKEN:
            raise Unauthorized("the token is not valid")
        # A macaroon has no dots.
        if self._json_web_tokens is not None and token.count(".") == 2:
            principal = self._json_web_tokens.verify(token)
        else:
            principal = self._verify(token)
        if principal.expires is not None and principal.expires <= self._now():
            raise Unauthorized("the token has expired")
        if self._revocations.covers(principal):
            raise Unauthorized("the token was revoked")
        return principal
