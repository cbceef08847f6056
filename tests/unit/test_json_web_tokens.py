"""JSON Web Tokens of a trusted issuer speak for its users; any other speaks for nobody."""

from __future__ import annotations

import http.server
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from app import access
from app.access import Authenticator, Principal, published_keys
from app.access.json_web_tokens import JsonWebTokens
from app.access.published_keys import PublishedKeys
from app.api import create_app
from app.errors import Invalid, IssuerUnavailable, Unauthorized
from app.settings import Settings
from tests import json_web_tokens as issuer
from tests.servers import wait_until

SECRET = "main:0123456789abcdef0123456789abcdef"


class NothingRevoked:
    def covers(self, principal: Principal) -> bool:
        return False


@pytest.fixture(scope="module")
def jwks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("issuer") / "jwks.json"
    path.write_text(json.dumps(issuer.published()))
    return path


def authenticator(keys: PublishedKeys, *, rights_claim: str = "can", now: Callable[[], float] = time.time) -> Any:
    trusted = JsonWebTokens(keys, issuer=issuer.ISSUER, audience=issuer.AUDIENCE, rights_claim=rights_claim)
    return Authenticator(SECRET, NothingRevoked(), trusted, now=now)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def make_keys(jwks: Path) -> Iterator[Callable[..., PublishedKeys]]:
    """The keys at a place, by default those of both algorithms."""
    with ExitStack() as stack:

        def make(place: Path | str = jwks, **pauses: float) -> PublishedKeys:
            keys = PublishedKeys(str(place), **pauses)
            stack.callback(keys.close)
            return keys

        yield make


@pytest.fixture(scope="module")
def principal(make_keys: Callable[..., PublishedKeys]) -> Callable[[str], Principal]:
    return authenticator(make_keys()).principal  # type: ignore[no-any-return]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_token_speaks_for_its_subject(principal: Callable[[str], Principal], algorithm: str) -> None:
    now = int(time.time())

    who = principal(issuer.token(algorithm, sub="Ёж", exp=now + 60, iat=now - 5, jti="id-1"))

    assert who == Principal("Ёж", expires=now + 60, token_id="id-1", issued_ms=(now - 5) * 1000)


def test_macaroons_are_accepted_beside_them(principal: Callable[[str], Principal]) -> None:
    assert principal(access.issue(SECRET, "anna")).owner == "anna"


def test_claims_limit_it_as_caveats_do(principal: Callable[[str], Principal]) -> None:
    scopes = {"session": "s1", "conversation": "ABC", "agent": 2, "model": "demo"}

    who = principal(issuer.token(can="read cancel openid", **scopes))

    assert (who.owner, who.rights) == ("anna", {"read", "cancel"})
    assert (who.sessions, who.conversations, who.agents, who.models) == ({"s1"}, {"abc"}, {2}, {"demo"})


@pytest.mark.parametrize(
    ("said", "rights"),
    [
        (None, {"read", "write", "cancel"}),
        ("", set()),
        ([], set()),
        ("openid profile", set()),
        (["read", "operate"], {"read", "operate"}),
        ("read write", {"read", "write"}),
    ],
)
def test_rights_are_what_the_claim_says(make_keys: Callable[..., PublishedKeys], said: Any, rights: set[str]) -> None:
    check = authenticator(make_keys(), rights_claim="scope").principal

    assert check(issuer.token(scope=said)).rights == rights


BAD: dict[str, Callable[[], str]] = {
    "alg none": issuer.unsigned,
    "HS256 with the public key": issuer.signed_with_the_public_key,
    "HS256 with its DER": lambda: issuer.signed_with_the_public_key("DER"),
    "HS256 with the server's secret": lambda: issuer.token("HS256", key=SECRET),
    "RS384": lambda: issuer.token("RS384"),
    "PS256": lambda: issuer.token("PS256"),
    "key of another": lambda: issuer.token(key=issuer.rsa_key("another")),
    "curve of another": lambda: issuer.token("ES256", key=issuer.ec_key("another")),
    "id of another key": lambda: issuer.token("ES256", kid="rsa"),
    "unknown key": lambda: issuer.token(kid="retired"),
    "no expiry": lambda: issuer.token(exp=None),
    "expired": lambda: issuer.token(exp=int(time.time()) - 5),
    "endless": lambda: issuer.token(exp=float("inf")),
    "expiry is text": lambda: issuer.token(exp="soon"),
    "not yet": lambda: issuer.token(nbf=int(time.time()) + 300),
    "issued later": lambda: issuer.token(iat=int(time.time()) + 300),
    "another audience": lambda: issuer.token(aud="another"),
    "audience in part": lambda: issuer.token(aud="back"),
    "no audience": lambda: issuer.token(aud=None),
    "another issuer": lambda: issuer.token(iss=issuer.ISSUER.rstrip("/")),
    "no issuer": lambda: issuer.token(iss=None),
    "nobody": lambda: issuer.token(sub=None),
    "empty": lambda: issuer.token(sub=""),
    "too long": lambda: issuer.token(sub="x" * 65),
    "unprintable": lambda: issuer.token(sub="a\nb"),
    "space after it": lambda: issuer.token(sub="anna "),
    "rights are a number": lambda: issuer.token(can=7),
    "agent is a name": lambda: issuer.token(agent="all"),
    "empty scope": lambda: issuer.token(session=""),
    "odd id": lambda: issuer.token(jti="a b"),
    "two parts changed": lambda: ".".join(reversed(issuer.token().split("."))),
    "no signature": lambda: issuer.token().rpartition(".")[0] + ".",
    "too large": lambda: issuer.token(extra="x" * 9000),
}


@pytest.mark.parametrize("kind", BAD)
def test_another_token_speaks_for_nobody(principal: Callable[[str], Principal], kind: str) -> None:
    with pytest.raises(Unauthorized):
        principal(BAD[kind]())


def test_several_audiences_are_fine_when_ours_is_among_them(principal: Callable[[str], Principal]) -> None:
    assert principal(issuer.token(aud=["another", issuer.AUDIENCE])).owner == "anna"


@given(st.text(alphabet="abcXYZ019-_=.", max_size=60), st.integers(0, 2))
def test_no_garbage_is_ever_one(principal: Callable[[str], Principal], text: str, place: int) -> None:
    # Shorter than each part of a valid one.
    parts = issuer.token().split(".")
    parts[place] = text[:30]

    for token in (text, f"{text}.{text}.{text}", ".".join(parts)):
        with pytest.raises(Unauthorized):
            principal(token)


def test_one_expires_while_it_is_remembered(make_keys: Callable[..., PublishedKeys]) -> None:
    now = [time.time()]
    check = authenticator(make_keys(), now=lambda: now[0]).principal
    token = issuer.token()
    check(token)

    now[0] += 600

    with pytest.raises(Unauthorized, match="expired"):
        check(token)


def test_the_token_of_a_session_comes_from_it(principal: Callable[[str], Principal]) -> None:
    who = principal(issuer.token(can="read"))

    made = principal(access.issue_for_session(SECRET, who, "s1"))

    assert (made.owner, made.rights, made.sessions) == ("anna", {"read"}, {"s1"})
    assert (made.token_id, made.expires) == (who.token_id, who.expires)


# keys


def test_keys_are_read_again_in_the_background(make_keys: Callable[..., PublishedKeys], tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": issuer.published()["keys"][:1]}))
    keys = make_keys(path, refresh_s=0.02, retry_s=0.01)
    check = authenticator(keys).principal
    old, new = issuer.token("RS256"), issuer.token("ES256")
    assert check(old).owner == "anna"

    path.write_text(json.dumps({"keys": issuer.published()["keys"][1:]}))

    wait_until(lambda: valid(check, new), "the new key is known")
    assert not valid(check, old)


def valid(check: Callable[[str], Principal], token: str) -> bool:
    try:
        check(token)
    except Unauthorized:
        return False
    return True


def test_a_key_that_is_missed_has_them_read_sooner(make_keys: Callable[..., PublishedKeys], tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": issuer.published()["keys"][:1]}))
    check = authenticator(make_keys(path, refresh_s=600, retry_s=0.01)).principal
    path.write_text(json.dumps(issuer.published()))

    wait_until(lambda: valid(check, issuer.token("ES256")), "the new key is known")


def test_known_keys_hold_while_the_file_can_not_be_used(
    make_keys: Callable[..., PublishedKeys], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(issuer.published()))
    check = authenticator(make_keys(path, refresh_s=0.02, retry_s=0.01)).principal

    path.write_text("{")

    with caplog.at_level(logging.WARNING):
        wait_until(lambda: "can't be read" in caplog.text, "it was tried")
    assert check(issuer.token()).owner == "anna"
    path.unlink()


def jwk_of(key: Any, **more: Any) -> dict[str, Any]:
    algorithm: Any = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
    return json.loads(algorithm.to_jwk(key.public_key())) | more  # type: ignore[no-any-return]


USELESS: dict[str, Any] = {
    "text": "nonsense",
    "a list": [],
    "no keys": {"keys": []},
    "keys are none": {"keys": [1]},
    "secret": {"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]},
    "another curve": {"keys": [jwk_of(ec.generate_private_key(ec.SECP384R1()))]},
    "Edwards curve": {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]},
    "to encrypt": issuer.published(use="enc"),
    "for another algorithm": issuer.published(alg="PS256"),
    "half a key": {"keys": [{"kty": "RSA", "e": "AQAB"}]},
    "short": {"keys": [jwk_of(issuer.rsa_key("short", 1024))]},
}


@pytest.mark.parametrize("kind", USELESS)
def test_what_holds_no_key_to_verify_with_is_refused_at_start(
    make_keys: Callable[..., PublishedKeys], tmp_path: Path, kind: str
) -> None:
    document = USELESS[kind]
    path = tmp_path / "jwks.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))

    with pytest.raises(Invalid, match="JWT_JWKS"):
        make_keys(path)


@pytest.mark.parametrize("place", ["/nowhere/jwks.json", "http://127.0.0.1:1/jwks", "file:///etc/passwd", "ftp://x/y"])
def test_keys_come_from_a_file_or_over_https(make_keys: Callable[..., PublishedKeys], place: str) -> None:
    with pytest.raises(Invalid, match="JWT_JWKS"):
        make_keys(place)


def test_a_key_without_an_id_verifies_tokens_that_name_none(
    make_keys: Callable[..., PublishedKeys], tmp_path: Path
) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk_of(issuer.rsa_key())]}))
    check = authenticator(make_keys(path)).principal

    assert check(jwt.encode(issuer.claims(), issuer.rsa_key(), "RS256")).owner == "anna"
    assert not valid(check, issuer.token())


def test_the_private_half_of_a_key_is_left_where_it_is(tmp_path: Path) -> None:
    private = json.loads(RSAAlgorithm.to_jwk(issuer.rsa_key()))

    [key] = published_keys.parse(json.dumps({"keys": [private]}).encode()).values()

    assert not hasattr(key, "private_numbers")


# over https


class Publisher(http.server.BaseHTTPRequestHandler):
    """Answers what a test says: status, headers and body."""

    answer: ClassVar[tuple[int, dict[str, str], bytes]] = (200, {}, b"")

    def do_GET(self) -> None:
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of its own for `localhost`, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(pem))
    return path


@pytest.fixture
def address(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a publisher answers over TLS, whose certificate this process trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Publisher)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"https://localhost:{server.server_port}/jwks"
    server.shutdown()
    thread.join()
    server.server_close()


def test_keys_are_read_over_https(
    make_keys: Callable[..., PublishedKeys], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Publisher, "answer", (200, {}, json.dumps(issuer.published()).encode()))

    assert authenticator(make_keys(address)).principal(issuer.token()).owner == "anna"


@pytest.mark.parametrize(
    "answer",
    [(500, {}, b""), (200, {}, b"{}"), (200, {}, b" " * (1 << 21)), (302, {"Location": "http://127.0.0.1:1/"}, b"")],
    ids=["error", "no keys", "too large", "sent elsewhere"],
)
def test_a_server_starts_while_its_issuer_is_away_and_says_so(
    make_keys: Callable[..., PublishedKeys],
    address: str,
    answer: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Publisher, "answer", answer)

    check = authenticator(make_keys(address, retry_s=0.01)).principal

    assert "can't be read" in caplog.text
    with pytest.raises(IssuerUnavailable):
        check(issuer.token())
    assert check(access.issue(SECRET, "anna")).owner == "anna"
    monkeypatch.setattr(Publisher, "answer", (200, {}, json.dumps(issuer.published()).encode()))
    wait_until(lambda: known(check), "the keys are known")


def known(check: Callable[[str], Principal]) -> bool:
    try:
        check(issuer.token())
    except IssuerUnavailable:
        return False
    return True


def test_a_certificate_of_somebody_else_is_not_trusted(
    make_keys: Callable[..., PublishedKeys], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Publisher, "answer", (200, {}, json.dumps(issuer.published()).encode()))
    monkeypatch.delenv("SSL_CERT_FILE")

    with pytest.raises(IssuerUnavailable):
        authenticator(make_keys(address, retry_s=600)).principal(issuer.token())


# settings


@pytest.mark.parametrize("missing", ["jwt_jwks", "jwt_issuer", "jwt_audience", "chat_secret"])
def test_half_a_configuration_does_not_start(jwks: Path, missing: str) -> None:
    whole = {"jwt_jwks": str(jwks), "jwt_issuer": "i", "jwt_audience": "a", "chat_secret": SECRET}

    with pytest.raises(Invalid, match=missing.upper()):
        create_app(Settings(**whole | {missing: ""}))  # type: ignore[arg-type]


def test_an_edwards_key_signs_nothing_that_is_accepted(principal: Callable[[str], Principal]) -> None:
    with pytest.raises(Unauthorized):
        principal(issuer.token("EdDSA", key=ed25519.Ed25519PrivateKey.generate()))
