"""Tokens speak for one owner, until they expire, and for nobody when anything about them was changed."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymacaroons import Macaroon

from app import access
from app.errors import Invalid, Unauthorized

SECRET = "a root key for tests"
NOW = datetime.now(UTC)


@pytest.mark.parametrize("owner", ["alice", "Ёж 🙂", "a = b", "x" * 64, "a b", "owner = root", "100%", "a%20b"])
def test_a_token_speaks_for_its_owner(owner: str) -> None:
    assert access.owner_of(SECRET, access.issue(SECRET, owner)) == owner


@pytest.mark.parametrize("owner", ["", "x" * 65, "a\nb", "a\x00", " a", "a ", "\u2028"])
def test_an_owner_that_could_be_mistaken_for_another_gets_no_token(owner: str) -> None:
    with pytest.raises(Invalid):
        access.issue(SECRET, owner)


def test_a_token_holds_until_it_expires() -> None:
    valid = access.issue(SECRET, "alice", expires=NOW + timedelta(hours=1))
    expired = access.issue(SECRET, "alice", expires=NOW - timedelta(seconds=1))

    assert access.owner_of(SECRET, valid) == "alice"
    with pytest.raises(Unauthorized):
        access.owner_of(SECRET, expired)


def test_a_token_of_another_root_key_is_none() -> None:
    with pytest.raises(Unauthorized):
        access.owner_of(SECRET, access.issue("another root key", "alice"))


def test_a_holder_can_narrow_a_token_and_not_widen_it() -> None:
    token = Macaroon.deserialize(access.issue(SECRET, "alice", expires=NOW + timedelta(hours=1)))
    shorter = token.copy()
    shorter.add_first_party_caveat(f"expires = {int((NOW - timedelta(minutes=1)).timestamp())}")
    longer = Macaroon.deserialize(access.issue(SECRET, "alice", expires=NOW - timedelta(hours=1)))
    longer.add_first_party_caveat(f"expires = {int((NOW + timedelta(hours=1)).timestamp())}")

    for narrowed in (shorter, longer):
        with pytest.raises(Unauthorized):
            access.owner_of(SECRET, narrowed.serialize())


@pytest.mark.parametrize(
    "caveat",
    ["owner = mallory", "expires", "expires = ", "expires = soon", "expires = -1", "expires = 1e99",
     "expires =9999999999", "anything", ""],
)  # fmt: skip
def test_a_condition_that_is_not_understood_is_not_met(caveat: str) -> None:
    token = Macaroon.deserialize(access.issue(SECRET, "alice"))
    token.add_first_party_caveat(caveat)

    with pytest.raises(Unauthorized):
        access.owner_of(SECRET, token.serialize())


def test_a_condition_of_a_third_party_is_not_met() -> None:
    token = Macaroon.deserialize(access.issue(SECRET, "alice"))
    token.add_third_party_caveat("elsewhere", "its key, thirty-two characters...", "a question")

    with pytest.raises(Unauthorized):
        access.owner_of(SECRET, token.serialize())


def test_a_macaroon_of_another_kind_is_no_token_of_ours() -> None:
    for identifier in ("alice", "user = alice", "owner = ", "owner=alice", ""):
        other = Macaroon(location="backchat", identifier=identifier, key=SECRET)
        with pytest.raises(Unauthorized):
            access.owner_of(SECRET, other.serialize())


@pytest.mark.parametrize("token", ["", " ", "abc", "a" * 10_000, "====", "\x00", "Ёж", "🙂", "AgEIYmFja2NoYXQ", "e30"])
def test_garbage_is_no_token(token: str) -> None:
    with pytest.raises(Unauthorized):
        access.owner_of(SECRET, token)


@given(st.one_of(st.text(), st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_no_garbage_is_ever_a_token(token: str) -> None:
    with pytest.raises(Unauthorized):
        access.owner_of(SECRET, token)


@given(st.data())
def test_a_token_with_one_character_changed_is_none_or_says_the_same(data: st.DataObject) -> None:
    token = access.issue(SECRET, "alice", expires=NOW + timedelta(days=1))
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
    changed = token[:place] + other + token[place + 1 :]

    try:
        owner = access.owner_of(SECRET, changed)
    except Unauthorized:
        return

    # The place that it names is not signed, and the last character has bits to spare.
    assert owner == "alice"
