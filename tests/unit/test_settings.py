"""Settings are read once, and a typo never means something dangerous."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert [record.setting for record in caplog.records] == ["RETENTION_DAYS"]


@pytest.mark.parametrize("raw", ["", "   "])
def test_an_empty_variable_is_as_good_as_none(raw: str, caplog: pytest.LogCaptureFixture) -> None:
    assert Settings.from_environment({"RETENTION_DAYS": raw, "CHAT_MODEL": raw}) == Settings()
    assert not caplog.records


@given(st.sampled_from(NUMBERS), st.text(max_size=12))
def test_whatever_is_written_numbers_are_positive_and_finite(name: str, raw: str) -> None:
    value = getattr(Settings.from_environment({name.upper(): raw}), name)

    assert 0 < value < float("inf")
    assert type(value) is type(getattr(Settings(), name))


def test_a_repr_never_shows_keys_and_passwords() -> None:
    urls = {"database_url": "mysql://user:s3cret@host/name", "redis_url": "redis://:s3cret@host"}
    shown = repr(Settings(openai_api_key="s3cret", chat_secret="s3cret", **urls))

    assert "s3cret" not in shown


def test_a_lease_survives_three_lost_renewals() -> None:
    assert Settings(lease_s=10).renew_s * 4 <= 10


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
