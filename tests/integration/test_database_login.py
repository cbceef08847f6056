"""Logging in to a real MariaDB: with TLS as `DATABASE_URL` asks for it, and as users of any script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app import db
from app.db.errors import in_full
from app.errors import DatabaseUnavailable, Invalid
from tests.conftest import close_all
from tests.servers import MariaDB


def make_certificate(
    folder: Path,
    name: str,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    address: str = "",
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate and its key, written to `name.pem` and `name.key`; without an issuer a CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(
            subject_name=subject, public_key=key.public_key(), serial_number=x509.random_serial_number()
        )
        .issuer_name(issuer[0].subject if issuer else subject)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if address:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False
        )
    certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, key


@dataclass
class Encrypted:
    """A MariaDB with a certificate for 127.0.0.1, and the folder of all that was made for it."""

    server: MariaDB
    certificates: Path

    def url(self, query: str, user: str = MariaDB.USER, host: str = "127.0.0.1") -> str:
        password = quote(MariaDB.PASSWORD, safe="")
        query = query.replace("@", f"{self.certificates}/")
        return f"mysql://{user}:{password}@{host}:{self.server.port}/mysql?{query}"


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory, mariadb_template: Path) -> Iterator[Encrypted]:
    folder = tmp_path_factory.mktemp("certificates")
    ca = make_certificate(folder, "ca")
    make_certificate(folder, "server", ca, address="127.0.0.1")
    make_certificate(folder, "client", ca)
    make_certificate(folder, "other-ca")
    server = MariaDB(
        tmp_path_factory.mktemp("encrypted"),
        template=mariadb_template,
        options=[f"--ssl-ca={folder}/ca.pem", f"--ssl-cert={folder}/server.pem", f"--ssl-key={folder}/server.key"],
    ).start()
    create = "CREATE USER {name}@'%%' IDENTIFIED BY %s REQUIRE {what}"
    with server.connect() as connection, connection.cursor() as cursor:
        for name, what in (("encrypted_only", "SSL"), ("known_only", "X509")):
            cursor.execute(create.format(name=name, what=what), [MariaDB.PASSWORD])
            cursor.execute(f"GRANT ALL ON *.* TO {name}@'%'")
        # The name `localhost` as well, which the certificate does not have.
        cursor.execute("CREATE USER backchat@localhost IDENTIFIED BY %s", [MariaDB.PASSWORD])
    yield Encrypted(server, folder)
    server.kill9()


def asked(url: str, statement: str) -> Any:
    """The first row of the answer, on a connection as every process makes it."""
    made = db.open_database(url)
    try:
        return db.reading(lambda: db.database.execute_sql(statement).fetchone())
    finally:
        close_all(made)


def cipher(url: str) -> str:
    """What the connection is encrypted with; empty: it is not."""
    return str(asked(url, "SHOW STATUS LIKE 'Ssl_cipher'")[1])


def refusal(url: str) -> str:
    """What is told in one line when the database can't be reached."""
    with pytest.raises(DatabaseUnavailable) as refused:
        asked(url, "SELECT 1")
    told = in_full(refused.value)
    assert "\n" not in told
    assert MariaDB.PASSWORD not in told
    return told


@pytest.mark.parametrize(
    "query",
    [
        "ssl=true",
        "ssl-mode=REQUIRED",
        "ssl_mode=PREFERRED",
        "ssl_ca=@ca.pem",
        "ssl=true&ssl_ca=@ca.pem&ssl_verify_cert=true",
        "ssl_mode=VERIFY_CA&ssl_ca=@ca.pem",
        "ssl-mode=verify-identity&ssl-ca=@ca.pem",
        "ssl_verify_server_cert=true&ssl_ca=@ca.pem",
        "ssl_cert=@client.pem&ssl_key=@client.key",
    ],
)
def test_a_connection_on_loopback_is_encrypted_when_that_is_asked_for(encrypted: Encrypted, query: str) -> None:
    assert cipher(encrypted.url(query)) != ""


@pytest.mark.parametrize("query", ["", "ssl=false", "ssl_mode=DISABLED"])
def test_a_connection_on_loopback_is_not_encrypted_otherwise(encrypted: Encrypted, query: str) -> None:
    assert cipher(encrypted.url(query)) == ""


@pytest.mark.parametrize(
    "query", ["ssl_ca=@other-ca.pem", "ssl_mode=VERIFY_IDENTITY&ssl_ca=@other-ca.pem", "ssl_verify_cert=true"]
)
def test_a_server_of_another_ca_is_refused(encrypted: Encrypted, query: str) -> None:
    assert "certificate verify failed" in refusal(encrypted.url(query))


def test_a_server_of_another_name_is_refused_when_its_identity_is_asked_for(encrypted: Encrypted) -> None:
    assert "certificate verify failed" in refusal(
        encrypted.url("ssl_mode=VERIFY_IDENTITY&ssl_ca=@ca.pem", host="localhost")
    )
    assert cipher(encrypted.url("ssl_mode=VERIFY_CA&ssl_ca=@ca.pem", host="localhost")) != ""


def test_a_server_that_can_not_encrypt_is_refused_when_it_has_to(mariadb: MariaDB) -> None:
    assert "SSL is required but the server doesn't support it" in refusal(f"{mariadb.url('mysql')}?ssl=true")
    assert cipher(f"{mariadb.url('mysql')}?ssl_mode=PREFERRED") == ""


def test_a_user_who_has_to_encrypt_or_to_be_known_is_told(encrypted: Encrypted) -> None:
    assert "Access denied" in refusal(encrypted.url("", user="encrypted_only"))
    assert "Access denied" in refusal(encrypted.url("ssl=true", user="known_only"))
    assert cipher(encrypted.url("ssl=true", user="encrypted_only")) != ""
    assert cipher(encrypted.url("ssl_cert=@client.pem&ssl_key=@client.key", user="known_only")) != ""


def test_a_key_of_another_certificate_is_told(encrypted: Encrypted) -> None:
    with pytest.raises(Invalid, match=r"ssl_cert or ssl_key can't be used: .*KEY_VALUES_MISMATCH"):
        db.open_database(encrypted.url("ssl_cert=@client.pem&ssl_key=@server.key"))


def test_a_unix_socket_is_taken(mariadb: MariaDB) -> None:
    socket = mariadb.folder / "s"
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE USER by_socket@localhost IDENTIFIED BY 'secret'")
        cursor.execute("GRANT ALL ON *.* TO by_socket@localhost")

    assert asked(f"mysql://by_socket:secret@/mysql?unix_socket={socket}", "SELECT USER()") == ("by_socket@localhost",)


@pytest.mark.parametrize("user", ["имя", "nämé", "名前"])
@pytest.mark.parametrize("write", [partial(quote, safe=""), str], ids=["percent-encoded", "as it is"])
def test_users_and_passwords_of_any_script_log_in(mariadb: MariaDB, user: str, write: Callable[[str], str]) -> None:
    password = f"{user} € 🙂"
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE USER %s@'127.0.0.1' IDENTIFIED BY %s", [user, password])
        cursor.execute("GRANT ALL ON *.* TO %s@'127.0.0.1'", [user])

    row = asked(f"mysql://{write(user)}:{write(password)}@127.0.0.1:{mariadb.port}/mysql", "SELECT USER()")

    assert row == (f"{user}@127.0.0.1",)
