"""The public keys of an issuer of JSON Web Tokens: read at start, and again and again in the background."""

from __future__ import annotations

import json
import logging
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK

from app.errors import Invalid

logger = logging.getLogger(__name__)

PublicKey = RSAPublicKey | EllipticCurvePublicKey

#: The one algorithm that a key of this type, and on this curve, may be used with.
_ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256"}
ALGORITHMS = tuple(_ALGORITHMS.values())
#: What a public key consists of; the rest, also a private half, is left where it is.
_PUBLIC = frozenset({"kty", "n", "e", "crv", "x", "y"})
_SMALLEST_RSA_BITS = 2048
_LARGEST_BYTES = 1 << 20
_ANSWER_S = 5.0


@dataclass(frozen=True, eq=False)
class KeySet:
    """What was published at one time."""

    #: By algorithm and key id; the id is None for a key without one.
    keys: Mapping[tuple[str, str | None], PublicKey]


class PublishedKeys:
    """Keys from *place*: a JWKS in a file, or behind an https address.

    Args:
        refresh_s: Pause between two reads.
        retry_s: The shortest one: after a read that failed, and when a key is missed.

    Raises:
        Invalid: *place* is neither, or the file can't be used. What an address answers may become better.
    """

    def __init__(self, place: str, *, refresh_s: float = 300.0, retry_s: float = 10.0) -> None:
        if "://" in place and not place.startswith("https://"):
            raise Invalid("JWT_JWKS is a file or an address with https")
        self._place = place
        self._refresh_s = refresh_s
        self._retry_s = retry_s
        self._missed = threading.Event()
        self._closed = threading.Event()
        #: None: nothing could be read yet.
        self.current: KeySet | None = None
        try:
            self.current = self._read()
        except Exception as error:
            if not place.startswith("https://"):
                raise Invalid(f"JWT_JWKS can't be used: {error}") from error
            self._report(error)
        threading.Thread(target=self._keep_fresh, name="published keys", daemon=True).start()

    def miss(self) -> None:
        """Have them read again soon, since a token names a key that is not there. Returns at once."""
        self._missed.set()

    def close(self) -> None:
        """Read them no more."""
        self._closed.set()
        self._missed.set()

    def _keep_fresh(self) -> None:
        failed = self.current is None
        # Whoever sends unknown keys may not have them read all the time.
        while not self._closed.wait(self._retry_s):
            if not failed:
                self._missed.wait(self._refresh_s - self._retry_s)
            self._missed.clear()
            try:
                self.current = self._read()
                failed = False
            except Exception as error:  # noqa: BLE001 - whatever the issuer answers, those that are known hold
                failed = True
                self._report(error)

    def _read(self) -> KeySet:
        return KeySet(parse(_fetch(self._place) if "://" in self._place else Path(self._place).read_bytes()))

    def _report(self, error: Exception) -> None:
        logger.warning("the keys of JSON Web Tokens can't be read", extra={"error": f"{type(error).__name__}: {error}"})


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Its answer would come from a place that nobody has named, perhaps without TLS."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(address: str) -> bytes:
    opener = urllib.request.build_opener(_NoRedirects)
    with opener.open(address, timeout=_ANSWER_S) as response:
        document: bytes = response.read(_LARGEST_BYTES + 1)
    if len(document) > _LARGEST_BYTES:
        raise ValueError("the document is too large")
    return document


def parse(document: bytes) -> dict[tuple[str, str | None], PublicKey]:
    """The keys of a JWKS that can sign as we accept it; others are passed over.

    Raises:
        ValueError: it is no JWKS, or has no such key.
    """
    try:
        published = json.loads(document)["keys"]
        found = dict(filter(None, map(_usable, published)))
    except Exception as error:  # what the library raises on keys that are none is of many kinds
        raise ValueError(f"it is no JWKS ({type(error).__name__})") from error
    if not found:
        raise ValueError(f"it has no key for {' or '.join(ALGORITHMS)}")
    return found


def _usable(key: dict[str, Any]) -> tuple[tuple[str, str | None], PublicKey] | None:
    algorithm = _ALGORITHMS.get((key.get("kty", ""), key.get("crv")))
    if algorithm is None or key.get("alg", algorithm) != algorithm or key.get("use", "sig") != "sig":
        return None
    made: PublicKey = PyJWK({name: key[name] for name in _PUBLIC & key.keys()}, algorithm).key
    if made.key_size < _SMALLEST_RSA_BITS and algorithm == "RS256":
        raise ValueError("a key of fewer than 2048 bits")
    return (algorithm, key.get("kid")), made
