"""Settings are read once, and a typo never means something dangerous."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Invalid
from app.settings import Settings

NUMBERS = [setting.name for setting in fields(Settings) if not isinstance(setting.default, str)]


def test_an_empty_environment_means_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()


def test_each_field_is_the_variable_of_its_name_in_capitals() -> None:
    settings = Settings.from_environment({"CHAT_MODEL": " openai:gpt-5-mini ", "PORT": "9000", "LEASE_S": "2.5"})

    assert (settings.chat_model, settings.port, settings.lease_s) == ("openai:gpt-5-mini", 9000, 2.5)


@pytest.mark.parametrize("raw", ["0", "-1", "1e999", "nan", "inf", "-inf", "ten", "1,5", "0x10"])
def test_a_number_that_makes_no_sense_is_its_default_and_is_warned_of(
    raw: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings.from_environment({"RETENTION_DAYS": raw})

    assert settings.retention_days == 30
    assert [record.setting for record in caplog.records if record.name == "app.settings"] == ["RETENTION_DAYS"]


@pytest.mark.parametrize("raw", ["", "   "])
def test_an_empty_variable_is_as_good_as_none(raw: str, caplog: pytest.LogCaptureFixture) -> None:
    assert Settings.from_environment({"RETENTION_DAYS": raw, "CHAT_MODEL": raw}) == Settings()
    assert not caplog.records


@given(st.sampled_from(NUMBERS), st.text(max_size=12))
def test_whatever_is_written_numbers_are_positive_and_finite(name: str, raw: str) -> None:
    value = getattr(Settings.from_environment({name.upper(): raw}), name)

    least = 0 if Settings.__dataclass_fields__[name].metadata.get("off") else sys.float_info.min
    assert least <= value < float("inf")
    assert type(value) is type(getattr(Settings(), name))


def test_what_stands_in_no_variable_is_read_from_a_file_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "chat_secret").write_text("from the file\n")
    (tmp_path / "PORT").write_text("9000")
    (tmp_path / "host").write_text("0.0.0.0")
    (tmp_path / "chat_model").mkdir()
    (tmp_path / "certificate").write_bytes(b"\xff")

    settings = Settings.from_environment({"SECRETS_DIR": str(tmp_path), "CHAT_SECRET": "", "HOST": "::1"})

    assert (settings.chat_secret, settings.port, settings.host) == ("from the file", 9000, "::1")
    assert settings.chat_model == "demo"


@pytest.mark.parametrize("kind", ["absent", "a file", "not UTF-8"])
def test_secrets_that_can_not_be_read_are_no_empty_ones(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "secrets"
    if kind == "a file":
        folder.touch()
    elif kind == "not UTF-8":
        folder.mkdir()
        (folder / "chat_secret").write_bytes(b"\xff")

    with pytest.raises(Invalid, match="SECRETS_DIR can't be read: "):
        Settings.from_environment({"SECRETS_DIR": str(folder)})


def test_a_repr_never_shows_keys_and_passwords() -> None:
    urls = {"database_url": "mysql://user:s3cret@host/name", "redis_url": "redis://:s3cret@host"}
    shown = repr(Settings(openai_api_key="s3cret", chat_secret="s3cret", **urls))

    assert "s3cret" not in shown


def test_a_worker_may_lose_many_heartbeats_within_a_lease() -> None:
    assert Settings(lease_s=10).beat_s * 8 <= 10
    assert Settings(lease_s=600).beat_s <= 1


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("localhost", "http://localhost:8000"),
    ],
)
def test_a_server_that_listens_everywhere_is_found_on_loopback(host: str, url: str) -> None:
    assert Settings(host=host).local_url == url


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """In place of this process's own, in an empty folder."""
    made: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", made)
    monkeypatch.chdir(tmp_path)
    return made


def test_what_the_environment_lacks_is_read_from_the_env_file(environment: dict[str, str]) -> None:
    environment["LEASE_S"] = "5"
    Path(".env").write_text(
        "\ufeff# ours\n\nexport CHAT_MODEL=openai:gpt-5-mini\nPORT = 9000 # free\n\n"
        "CHAT_SECRET='a # and a space'\nLEASE_S=7\nANTHROPIC_API_KEY=k\nMAX_ATTEMPTS=\n",
        "utf-8",
    )

    settings = Settings.from_environment()

    assert (settings.chat_model, settings.port, settings.chat_secret) == ("openai:gpt-5-mini", 9000, "a # and a space")
    assert (settings.lease_s, settings.max_attempts) == (5, 3)
    assert environment["ANTHROPIC_API_KEY"] == "k"


def test_an_empty_variable_of_the_environment_wins_too(environment: dict[str, str]) -> None:
    environment["CHAT_MODEL"] = ""
    Path(".env").write_text("CHAT_MODEL=openai:gpt-5-mini\n")

    assert Settings.from_environment().chat_model == "demo"


def test_given_settings_are_not_mixed_with_the_env_file(environment: dict[str, str]) -> None:
    Path(".env").write_text("PORT=9000\n")

    assert Settings.from_environment({}) == Settings()
    assert not {"PORT", "CHAT_SECRET"} & environment.keys()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("nonsense\n", 1),
        ("PORT=9000\n\n\n  CHAT_SECRET s3cret\n", 4),
        ("# a comment\r\n\r\nCHAT_SECRET: s3cret\r\n", 3),
        ("PORT=9000\nCHAT_SECRET='s3cret\nHOST=localhost\n", 2),
        ('PORT=9000\nCHAT_SECRET="s3cret" s3cret\n', 2),
        ("PORT=9000\n=s3cret", 2),
        ("MY-SECRET=s3cret\n", 1),
        ("PORT=9000\nCHAT_SECRET=s3\0cret\n", 2),
        ("OPENAI_API_KEY='one\ntwo'\nCHAT_SECRET\n", 3),
    ],
)
def test_a_line_that_is_no_setting_is_named_by_its_number_and_not_quoted(
    environment: dict[str, str], text: str, line: int
) -> None:
    Path(".env").write_bytes(text.encode())

    with pytest.raises(Invalid) as raised:
        Settings.from_environment()

    assert raised.value.detail.startswith(f".env, line {line}: ")
    assert "s3" not in raised.value.detail
    assert not {"PORT", "CHAT_SECRET"} & environment.keys()


def test_an_env_file_that_can_not_be_read_is_told(environment: dict[str, str]) -> None:
    Path(".env").write_bytes(b"CHAT_SECRET=\xff\n")
    with pytest.raises(Invalid, match=r"\.env can't be read: it is not UTF-8"):
        Settings.from_environment()

    environment["ENV_FILE"] = "missing.env"
    with pytest.raises(Invalid, match=r"missing\.env can't be read: No such file"):
        Settings.from_environment()


def test_a_folder_called_env_is_no_file_of_settings(environment: dict[str, str]) -> None:
    Path(".env").mkdir()

    assert Settings.from_environment() == Settings()


def test_tools_see_no_secret() -> None:
    settings = Settings(
        openai_api_key="s3cret", chat_secret="s3cret", database_url="mysql://a:s3cret@b/c", redis_url="redis://:s3cret@b",
        secrets_dir="/run/s3cret", chat_model="kept",
    )  # fmt: skip

    shown = settings.without_secrets()

    assert "s3cret" not in str(vars(shown))
    assert (shown.chat_model, shown.max_content_bytes) == ("kept", settings.max_content_bytes)


def test_what_is_named_like_a_secret_is_shown_nowhere() -> None:
    named = {
        each.name: each.repr for each in fields(Settings) if re.search("secret|key|password|token|_url$", each.name)
    }

    assert {name for name, shown in named.items() if shown} <= {"openai_base_url"}
