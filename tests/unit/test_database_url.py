"""What `DATABASE_URL` may say, and that what it can't is told in one line without a password."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app import db
from app.db.url import MODES, mysql_options, sqlite_path
from app.errors import Invalid

HOST = "mysql://backchat:s3cret@db.example/chat"
LOOPBACK = "mysql://backchat:s3cret@127.0.0.1/chat"


def certificates() -> str:
    """A file of CAs that every machine with Python's `ssl` has."""
    return ssl.get_default_verify_paths().cafile or pytest.skip("this machine has no file of CAs")


def test_a_url_says_where_the_database_is_and_who_logs_in() -> None:
    options = mysql_options("mariadb://user:pass@[::1]:3307/chat%20base?connect_timeout=2.5&charset=UTF8MB4")

    assert options == {
        "host": "::1",
        "port": 3307,
        "user": "user",
        "password": b"pass",
        "database": "chat base",
        "connect_timeout": 2.5,
        "ssl_disabled": True,
    }


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example("p@ss:w/rd?#%")
@example("пароль ℀ ﹕ é")
def test_whatever_a_user_and_a_password_hold_percent_encoded_they_arrive(secret: str) -> None:
    options = mysql_options(f"mysql://{quote(secret, safe='')}:{quote(secret, safe='')}@host/name")

    assert (options["user"], options["password"]) == (secret, secret.encode())


@pytest.mark.parametrize("secret", ["пароль", "pässwörd", "密码", "℀℁", "\udcff"])
def test_what_is_not_ascii_needs_no_percent_signs(secret: str) -> None:
    options = mysql_options(f"mysql://user:{secret}@host/name")

    assert options["password"] == secret.encode("utf-8", "surrogateescape")


def test_percent_signs_may_mean_bytes_of_another_encoding() -> None:
    assert mysql_options("mysql://user:p%E4ss@host/name")["password"] == b"p\xe4ss"


@pytest.mark.parametrize(
    "secret", ["s3/cret", "1/2", "s3?cret", "1?2", "s3#cret", "1#2", "s3@cr/et", "[s3cret", "s3]cret"]
)
@pytest.mark.parametrize("rest", ["name", "name?ssl=true"])
def test_a_password_that_has_to_be_encoded_is_told_and_not_shown(secret: str, rest: str) -> None:
    with pytest.raises(Invalid, match="percent-encoded") as refused:
        mysql_options(f"mysql://user:{secret}@host/{rest}")

    assert "s3" not in str(refused.value)
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("sslmode=REQUIRED", "unknown parameter, sslmode"),
        ("ssl-modus=1", "unknown parameter, ssl-modus"),
        ("passwd=s3cret", "unknown parameter, passwd"),
        ("%73%33%20cret=1", "a malformed parameter"),
        ("=s3cret", "a malformed parameter"),
        ("ssl", "ssl has no value"),
        ("ssl_ca=", "ssl_ca has no value"),
        ("ssl=true&SSL=true", "ssl twice"),
        ("ssl_ca=a&ssl-ca=b", "ssl_ca twice"),
        ("ssl=maybe", "ssl must be true or false"),
        ('ssl={"rejectUnauthorized":true}', "ssl must be true or false"),
        ("ssl_mode=ON", "ssl_mode must be one of DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY"),
        ("ssl_verify_cert=2", "ssl_verify_cert must be true or false"),
        ("ssl=false&ssl_ca=/x", "ssl, ssl_ca contradict each other"),
        ("ssl=false&ssl_mode=REQUIRED", "ssl, ssl_mode contradict each other"),
        ("ssl_mode=disabled&ssl_verify_identity=true", "ssl_mode, ssl_verify_identity contradict each other"),
        ("ssl_verify_cert=false&ssl_mode=VERIFY_CA", "ssl_mode, ssl_verify_cert contradict each other"),
        ("ssl_ca=/absent", "ssl_ca can't be used: No such file"),
        ("ssl_ca=/", "ssl_ca can't be used: "),
        ("ssl_ca=/dev/null", "ssl_ca can't be used: "),
        ("ssl_cert=/absent", "ssl_cert or ssl_key can't be used: No such file"),
        ("ssl_key=/absent", "ssl_key needs ssl_cert"),
        ("charset=latin1", "charset must be utf8mb4"),
        ("charset=utf8", "charset must be utf8mb4"),
        ("connect_timeout=0", "connect_timeout must be a number of seconds above 0"),
        ("read_timeout=-1", "read_timeout must be a number"),
        ("write_timeout=nan", "write_timeout must be a number"),
        ("read_timeout=1e99", "read_timeout must be a number"),
        ("read_timeout=soon", "read_timeout must be a number"),
    ],
)
@pytest.mark.parametrize("url", [HOST, LOOPBACK])
def test_a_parameter_that_can_not_be_used_is_named(url: str, query: str, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        db.open_database(f"{url}?{query}")

    assert told in str(refused.value)
    assert str(refused.value).startswith("DATABASE_URL")
    assert "s3cret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "must start with sqlite://, mysql:// or mariadb://"),
        ("postgres://user:s3cret@host/name", "must start with"),
        ("mysql://user:s3cret@host", "must name a database"),
        ("mysql://user:s3cret@host/", "must name a database"),
        ("mysql://user:s3cret@host/a/b", "must name a database"),
        ("mysql://user:s3cret@host:port/name", "host or port is malformed"),
        ("mysql://user:s3cret@host:65536/name", "host or port is malformed"),
        ("mysql://user:s3cret@host:0/name", "0 is no port"),
        ("mysql://user:s3cret@[::1/name", "host or port is malformed"),
        ("sqlite://relative.db", "three slashes"),
        ("sqlite:relative.db", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:///chat.db?timeout=5", "takes no parameters"),
    ],
)
def test_a_url_that_names_no_database_is_told(url: str, told: str) -> None:
    with pytest.raises(Invalid, match=told) as refused:
        db.open_database(url)

    assert "s3cret" not in str(refused.value)


def test_the_path_of_an_sqlite_database_is_taken_as_it_is() -> None:
    assert sqlite_path("sqlite:///var/a#b%20@c.db") == "var/a#b%20@c.db"
    assert sqlite_path("sqlite:////var/lib/chat.db") == "/var/lib/chat.db"
    assert sqlite_path(HOST) is None


@pytest.mark.parametrize(
    ("query", "verifies", "checks_name"),
    [
        ("ssl=true", False, False),
        ("ssl=1&connect_timeout=2", False, False),
        ("ssl-mode=REQUIRED", False, False),
        ("ssl_mode=verify-ca", True, False),
        ("ssl_mode=VERIFY_IDENTITY", True, True),
        ("ssl_verify_cert=true", True, False),
        ("ssl_verify_identity=true", True, True),
        ("ssl-verify-server-cert=true", True, True),
        ("ssl_ca={ca}", True, False),
        ("ssl=true&ssl_ca={ca}", True, False),
        ("ssl_ca={ca}&ssl_mode=REQUIRED", False, False),
        ("ssl_ca={ca}&ssl_mode=PREFERRED&ssl_verify_identity=true", True, True),
        ("ssl_ca={ca}&ssl_verify_identity=false", True, False),
    ],
)
@pytest.mark.parametrize("url", [HOST, LOOPBACK, f"{LOOPBACK}?unix_socket=/run/s"])
def test_encryption_that_is_asked_for_is_required_on_loopback_as_well(
    url: str, query: str, verifies: bool, checks_name: bool
) -> None:
    query = query.format(ca=certificates())

    options = mysql_options(f"{url}{'&' if '?' in url else '?'}{query}")

    assert "ssl_disabled" not in options
    context = options["ssl"]
    assert (context.verify_mode == ssl.CERT_REQUIRED, context.check_hostname) == (verifies, checks_name)


@pytest.mark.parametrize("query", ["ssl=false", "ssl_mode=DISABLED", "ssl-mode=disabled&ssl=off"])
def test_encryption_can_be_turned_off(query: str) -> None:
    assert mysql_options(f"{HOST}?{query}")["ssl_disabled"] is True


def test_encryption_that_nobody_asks_for_is_tried_but_on_loopback() -> None:
    assert not {"ssl", "ssl_disabled"} & mysql_options(HOST).keys()
    assert not {"ssl", "ssl_disabled"} & mysql_options(f"{LOOPBACK}?ssl_mode=PREFERRED").keys()
    assert mysql_options(LOOPBACK)["ssl_disabled"] is True
    assert mysql_options("mysql:///name?unix_socket=/run/s")["ssl_disabled"] is True


def test_a_migration_waits_for_as_long_as_it_takes_whatever_the_url_says(tmp_path: Path) -> None:
    url = f"{LOOPBACK}?read_timeout=5&write_timeout=6"

    patient = db.open_database(url, answer_s=1000).connect_params
    usual = db.open_database(url).connect_params

    assert (patient["read_timeout"], patient["write_timeout"]) == (1000, 1000)
    assert (usual["read_timeout"], usual["write_timeout"]) == (5, 6)


def test_the_modes_are_in_the_order_of_what_they_ask_for() -> None:
    assert MODES == ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
