"""What a tool raises is told to the model and the user, without what it holds of keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.redaction import LONGEST, redacted

KEY = "s3cretKey9876543210abcdef"


@pytest.mark.parametrize(
    "text",
    [
        f"401 Client Error: Unauthorized for url: https://api.example/v1/items?api_key={KEY}&q=x",
        f"404 for url https://api.example/bot{KEY}/getMe",
        f"can't connect to mysql://user:{KEY}@db.example:3306/name",
        f"redis://:{KEY}@10.0.0.1/0 refused",
        f"HTTPConnectionPool(host='a', port=443): Max retries exceeded with url: /v1?key={KEY} (Caused by x)",
        f"{{'Authorization': 'Bearer {KEY}', 'Accept': '*/*'}}",
        f"Authorization: Basic {KEY}==",
        f'{{"access_token": "{KEY}"}}',
        f"X-API-Key={KEY}; retry",
        f"password='{KEY}' is wrong",
        f"OPENAI_API_KEY={KEY}",
        "sk-proj-abcdefghijklmnop is no key",
        "ghp_abcdefghijklmnopqrstuv",
        "AKIAIOSFODNN7EXAMPLE refused",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
        "bad signature 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        f"Cookie: session={KEY}",
    ],
)
def test_no_key_is_left(text: str) -> None:
    said = redacted(text)

    for secret in (
        KEY, "sk-proj", "abcdefghijklmnop", "AKIAIO", "eyJhbG", "c2lnbmF0dXJl", "9f86d081884c7d659a2f",
    ):  # fmt: skip
        assert secret not in said


@pytest.mark.parametrize(
    "text",
    [
        "division by zero",
        "no file /srv/data/report-2026.csv",
        "no session 0190e3a2-7d1c-7b3a-9f4e-0123456789ab",
        "the city 'Москва' is not known",
        "expected 3 arguments, got 2 (calculate)",
    ],
)
def test_what_holds_no_key_stays(text: str) -> None:
    assert redacted(text) == text


def test_the_host_stays() -> None:
    assert redacted("timeout for https://u:p@api.example:8443/a/b?c=d#e") == "timeout for https://api.example:8443/[…]"


@given(st.text())
def test_whatever_is_raised_is_told_within_the_limit(text: str) -> None:
    assert len(redacted(text * 200)) <= LONGEST + 1
