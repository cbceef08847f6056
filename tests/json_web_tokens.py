"""An issuer of JSON Web Tokens: its keys, what it publishes of them, and tokens good and bad."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://id.example/", "backchat"


@functools.cache
def rsa_key(name: str = "rsa", bits: int = 2048) -> rsa.RSAPrivateKey:
    """The key of this name; made once, which takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@functools.cache
def ec_key(name: str = "ec") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def published(**changes: Any) -> dict[str, Any]:
    """A JWKS of both keys, under the ids `rsa` and `ec`."""
    keys = [
        json.loads(RSAAlgorithm.to_jwk(rsa_key().public_key())) | {"kid": "rsa", "alg": "RS256", "use": "sig"},
        json.loads(ECAlgorithm.to_jwk(ec_key().public_key())) | {"kid": "ec"},
    ]
    return {"keys": [key | changes for key in keys]}


def claims(**changes: Any) -> dict[str, Any]:
    """Those of a valid token of Anna's; one that is changed to None is left out."""
    now = int(time.time())
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "anna", "exp": now + 600, "iat": now, "jti": "of-anna"} | changes
    return {name: value for name, value in made.items() if value is not None}


def token(algorithm: str = "RS256", key: Any = None, kid: str | None = None, **changes: Any) -> str:
    """A token that is signed with the published key of this algorithm, or with another."""
    made = {"RS256": ("rsa", rsa_key), "ES256": ("ec", ec_key)}.get(algorithm, ("rsa", rsa_key))
    headers = {"kid": made[0] if kid is None else kid}
    return jwt.encode(claims(**changes), made[1]() if key is None else key, algorithm, headers)


def unsigned() -> str:
    return jwt.encode(claims(), None, "none", {"kid": "rsa"})


def signed_with_the_public_key(form: str = "PEM") -> str:
    """What verifies if a public key is taken for a shared secret."""
    encoding = getattr(serialization.Encoding, form)
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    secret = rsa_key().public_key().public_bytes(encoding, kind)
    parts = [{"alg": "HS256", "typ": "JWT", "kid": "rsa"}, claims()]
    text = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
