"""Tokens speak for one owner, until they expire, and for nobody when anything about them was changed."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymacaroons import Macaroon

from app import access
from app.access import Authenticator, Principal, keys
from app.errors import Invalid, Unauthorized

SECRET = "a root key for tests"
NEW, OLD = "new:0123456789abcdef0123456789abcdef", "old:fedcba9876543210fedcba9876543210"
NOW = datetime.now(UTC)


class Revoked:
    """Revocations that hold these tokens' ids."""

    def __init__(self, *token_ids: str) -> None:
        self._token_ids = token_ids

    def covers(self, principal: Principal) -> bool:
        return principal.token_id in self._token_ids


def principal(secret: str, token: str, *revoked: str) -> Principal:
    return Authenticator(secret, Revoked(*revoked)).principal(token)  # type: ignore[arg-type]


def whose(secret: str, token: str) -> str | None:
    """The owner that a token speaks for."""
    return principal(secret, token).owner


def narrowed(token: str, *caveats: str) -> str:
    """*token* with these caveats appended, as its holder would."""
    macaroon = Macaroon.deserialize(token)
    for caveat in caveats:
        macaroon.add_first_party_caveat(caveat)
    return str(macaroon.serialize())


@pytest.mark.parametrize("owner", ["alice", "Ёж 🙂", "a = b", "x" * 64, "a b", "owner = root", "100%", "a%20b"])
def test_a_token_speaks_for_its_owner(owner: str) -> None:
    assert whose(SECRET, access.issue(SECRET, owner)) == owner


@pytest.mark.parametrize("owner", ["", "x" * 65, "a\nb", "a\x00", " a", "a ", "\u2028"])
def test_an_owner_that_could_be_mistaken_for_another_gets_no_token(owner: str) -> None:
    with pytest.raises(Invalid):
        access.issue(SECRET, owner)


def test_a_token_holds_until_it_expires() -> None:
    valid = access.issue(SECRET, "alice", expires=NOW + timedelta(hours=1))
    expired = access.issue(SECRET, "alice", expires=NOW - timedelta(seconds=1))

    assert whose(SECRET, valid) == "alice"
    with pytest.raises(Unauthorized):
        whose(SECRET, expired)


def test_a_token_of_another_root_key_is_none() -> None:
    with pytest.raises(Unauthorized):
        whose(SECRET, access.issue("another root key", "alice"))


def test_a_holder_can_narrow_a_token_and_not_widen_it() -> None:
    token = Macaroon.deserialize(access.issue(SECRET, "alice", expires=NOW + timedelta(hours=1)))
    shorter = token.copy()
    shorter.add_first_party_caveat(f"expires = {int((NOW - timedelta(minutes=1)).timestamp())}")
    longer = Macaroon.deserialize(access.issue(SECRET, "alice", expires=NOW - timedelta(hours=1)))
    longer.add_first_party_caveat(f"expires = {int((NOW + timedelta(hours=1)).timestamp())}")

    for changed in (shorter, longer):
        with pytest.raises(Unauthorized):
            whose(SECRET, changed.serialize())


@pytest.mark.parametrize(
    "caveat",
    ["owner = mallory", "expires", "expires = ", "expires = soon", "expires = -1", "expires = 1e99",
     "expires =9999999999", "anything", ""],
)  # fmt: skip
def test_a_condition_that_is_not_understood_is_not_met(caveat: str) -> None:
    token = Macaroon.deserialize(access.issue(SECRET, "alice"))
    token.add_first_party_caveat(caveat)

    with pytest.raises(Unauthorized):
        whose(SECRET, token.serialize())


def test_a_condition_of_a_third_party_is_not_met() -> None:
    token = Macaroon.deserialize(access.issue(SECRET, "alice"))
    token.add_third_party_caveat("elsewhere", "its key, thirty-two characters...", "a question")

    with pytest.raises(Unauthorized):
        whose(SECRET, token.serialize())


def test_a_macaroon_of_another_kind_is_no_token_of_ours() -> None:
    for identifier in ("alice", "user = alice", "owner = ", "owner=alice", ""):
        other = Macaroon(location="backchat", identifier=identifier, key=SECRET)
        with pytest.raises(Unauthorized):
            whose(SECRET, other.serialize())


@pytest.mark.parametrize("token", ["", " ", "abc", "a" * 10_000, "====", "\x00", "Ёж", "🙂", "AgEIYmFja2NoYXQ", "e30"])
def test_garbage_is_no_token(token: str) -> None:
    with pytest.raises(Unauthorized):
        whose(SECRET, token)


@given(st.one_of(st.text(), st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_no_garbage_is_ever_a_token(token: str) -> None:
    with pytest.raises(Unauthorized):
        whose(SECRET, token)


@given(st.data())
def test_a_token_with_one_character_changed_is_none_or_says_the_same(data: st.DataObject) -> None:
    token = access.issue(SECRET, "alice", expires=NOW + timedelta(days=1))
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
    changed = token[:place] + other + token[place + 1 :]

    try:
        owner = whose(SECRET, changed)
    except Unauthorized:
        return

    # The place that it names is not signed, and the last character has bits to spare.
    assert owner == "alice"


# keys


def test_the_first_key_signs_and_every_key_verifies() -> None:
    by_old = access.issue(OLD, "alice")
    by_new = access.issue(f"{NEW},{OLD}", "alice")

    assert whose(f"{NEW},{OLD}", by_old) == whose(f"{NEW},{OLD}", by_new) == whose(NEW, by_new) == "alice"
    for retired, token in ((NEW, by_old), (OLD, by_new)):
        with pytest.raises(Unauthorized):
            whose(retired, token)


def before_keys_had_ids(secret: str, owner: str, *caveats: str) -> str:
    return narrowed(Macaroon(location="backchat", identifier=f"owner = {owner}", key=secret).serialize(), *caveats)


@pytest.mark.parametrize("setting", ["plain", "old:looks like a key", "a,b", "new:xyz,old:plain", "new:xyz, old:plain"])
def test_a_token_from_before_keys_had_ids_stays_valid(setting: str) -> None:
    secret = "plain" if "plain" in setting else setting

    token = before_keys_had_ids(secret, "alice")

    assert whose(setting, token) == "alice"
    with pytest.raises(Unauthorized):
        whose(setting, before_keys_had_ids("another", "alice"))


def test_a_plain_secret_becomes_a_key_when_it_is_given_an_id() -> None:
    token = access.issue("plain", "alice")

    assert whose(f"{NEW},{keys.PLAIN_ID}:plain", token) == "alice"


def test_a_key_that_can_be_guessed_is_reported_and_its_secret_is_not(caplog: pytest.LogCaptureFixture) -> None:
    access.report_short(f"{NEW},short:s3cret")

    [record] = caplog.records
    assert record.__dict__["key"] == "short"
    assert "s3cret" not in str(vars(record))


# caveats


def test_rights_are_what_every_caveat_leaves() -> None:
    token = access.issue(NEW, "alice")

    assert principal(NEW, token).rights == {"read", "write", "cancel"}
    assert principal(NEW, narrowed(token, "can = read cancel", "can = cancel write")).rights == {"cancel"}
    assert principal(NEW, narrowed(token, "can = operate")).rights == set()
    assert principal(NEW, narrowed(token, "can = read", "can = read write cancel operate")).rights == {"read"}
    assert principal(NEW, access.issue(NEW, "alice", can=["operate"])).rights == {"operate"}


@pytest.mark.parametrize("kind", ["session", "conversation", "agent", "model"])
def test_a_scope_is_what_every_caveat_allows(kind: str) -> None:
    token = access.issue(NEW, "alice")

    one = principal(NEW, narrowed(token, f"{kind} = 1"))
    same = principal(NEW, narrowed(token, f"{kind} = 1", f"{kind} = 1"))
    none = principal(NEW, narrowed(token, f"{kind} = 1", f"{kind} = 2"))

    assert {str(each) for each in getattr(one, f"{kind}s")} == {"1"}
    assert getattr(one, f"{kind}s") == getattr(same, f"{kind}s")
    assert getattr(none, f"{kind}s") == set()
    assert getattr(principal(NEW, token), f"{kind}s") is None


@pytest.mark.parametrize("times", [(10, 2_000_000_000), (2_000_000_000, 10), (0, 2_000_000_000)])
def test_the_earliest_expiry_holds(times: tuple[int, int]) -> None:
    token = narrowed(access.issue(NEW, "alice"), *(f"expires = {each}" for each in times))

    with pytest.raises(Unauthorized, match="expired"):
        principal(NEW, token)


def test_a_token_expires_while_it_is_remembered() -> None:
    now = [NOW.timestamp()]
    authenticator = Authenticator(NEW, Revoked(), now=lambda: now[0])  # type: ignore[arg-type]
    token = access.issue(NEW, "alice", expires=NOW + timedelta(hours=1))
    authenticator.principal(token)

    now[0] += 3600

    with pytest.raises(Unauthorized, match="expired"):
        authenticator.principal(token)


def test_an_issuer_names_an_owner_and_can_not_name_two() -> None:
    issuer = access.issue(NEW, None)

    assert principal(NEW, issuer).owner is None
    assert principal(NEW, narrowed(issuer, "owner = %D0%81%D0%B6")).owner == "Ёж"
    for changed in (
        narrowed(issuer, "owner = alice", "owner = bob"),
        narrowed(access.issue(NEW, "alice"), "owner = bob"),
        narrowed(issuer, "owner = %20alice"),
        narrowed(issuer, "owner = a%0Ab"),
        narrowed(issuer, "owner = " + "x" * 65),
        narrowed(issuer, "owner = %FF"),
    ):
        with pytest.raises(Unauthorized):
            principal(NEW, changed)


@pytest.mark.parametrize(
    "caveat", ["owner = bob", "anything", "can =read", "session = ", "expires = soon", "agent = x"]
)
def test_a_caveat_that_does_not_hold_is_not_passed_over_when_the_signature_leaves_it_out(caveat: str) -> None:
    token = Macaroon.deserialize(access.issue(NEW, "alice"))
    signature = token.signature
    token.add_first_party_caveat(caveat)
    token.signature = signature

    with pytest.raises(Unauthorized):
        principal(NEW, token.serialize())


def test_a_changed_identifier_is_another_token() -> None:
    for change in (("read,write", "operate,read,write"), ("2 new", "2 old"), (",write", "")):
        token = Macaroon.deserialize(access.issue(f"{NEW},{OLD}", "alice"))
        token.identifier = token.identifier.replace(*change)

        with pytest.raises(Unauthorized):
            principal(f"{NEW},{OLD}", token.serialize())


# revocation, and what comes from a token


def test_a_revoked_token_holds_no_longer_nor_does_what_comes_from_it() -> None:
    token = access.issue(NEW, "alice", token_id="t1")
    of_session = access.issue_for_session(NEW, principal(NEW, token), "s1")

    for each in (token, narrowed(token, "can = read"), of_session):
        assert principal(NEW, each).owner == "alice"
        with pytest.raises(Unauthorized, match="revoked"):
            principal(NEW, each, "t1")


def test_the_token_of_a_session_can_do_no_more_than_its_caller() -> None:
    caller = Principal("alice", frozenset({"read", "write"}), expires=NOW.timestamp() + 3600)

    made = principal(NEW, access.issue_for_session(NEW, caller, "s1"))

    assert (made.owner, made.rights, made.sessions) == ("alice", {"read"}, {"s1"})
    assert made.expires == int(NOW.timestamp() + 3600)


#: Made with HMAC and base64 alone: what other languages narrow is read here, and what was issued stays readable.
VECTORS = {
    "MDAxNmxvY2F0aW9uIGJhY2tjaGF0CjAwM2RpZGVudGlmaWVyIDIgbmV3IHRva2VuaWQgMTc2NzIyNTYwMDAwMCBjYW5jZWwscmVhZCx3cml0ZQowMDE2"
    "Y2lkIG93bmVyID0gYWxpY2UKMDAyZnNpZ25hdHVyZSA8BiC6mvdQaXLRfv-5RIBq4mufAIqn330JlJddtX_wqwo": Principal(
        "alice", token_id="tokenid", issued_ms=1767225600000
    ),
    "MDAxNmxvY2F0aW9uIGJhY2tjaGF0CjAwM2RpZGVudGlmaWVyIDIgbmV3IHRva2VuaWQgMTc2NzIyNTYwMDAwMCBjYW5jZWwscmVhZCx3cml0ZQowMDFk"
    "Y2lkIG93bmVyID0gJUQwJTgxJUQwJUI2CjAwMWFjaWQgY2FuID0gcmVhZCBjYW5jZWwKMDAxNWNpZCBzZXNzaW9uID0gczEKMDAxZGNpZCBleHBpcmVz"
    "ID0gNDEwMjQ0NDgwMAowMDJmc2lnbmF0dXJlIIH4WgAK9k2f1RV9_Cj3T80AJ7i8nhItzjOUrp6oS9tvCg": Principal(
        "Ёж",
        frozenset({"read", "cancel"}),
        sessions=frozenset({"s1"}),
        expires=4102444800,
        token_id="tokenid",
        issued_ms=1767225600000,
    ),
    "MDAxNmxvY2F0aW9uIGJhY2tjaGF0CjAwMWRpZGVudGlmaWVyIG93bmVyID0gYWxpY2UKMDAxZGNpZCBleHBpcmVzID0gNDEwMjQ0NDgwMAowMDJmc2ln"
    "bmF0dXJlIHh_YvGE-u6Up61b9G9rqWyhJh75cDYEoaC97s9rdtVYCg": Principal("alice", expires=4102444800),
}


@pytest.mark.parametrize(("token", "expected"), VECTORS.items(), ids=["issued", "narrowed", "before keys had ids"])
def test_a_token_says_what_it_said_when_it_was_made(token: str, expected: Principal) -> None:
    assert principal(f"{NEW},old:{SECRET}", token) == expected
