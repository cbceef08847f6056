"""Who calls: principals, from tokens that are checked here. Knows no HTTP."""

from .authenticator import Authenticator
from .keys import report_short, short
from .principal import LOCAL, LOCAL_OWNER, RIGHTS, Principal, Right, is_owner
from .revocations import Revocations, pseudonym, revoke_owner, revoke_token
from .tokens import issue, issue_for_session, verify

__all__ = [
    "LOCAL",
    "LOCAL_OWNER",
    "RIGHTS",
    "Authenticator",
    "Principal",
    "Revocations",
    "Right",
    "is_owner",
    "issue",
    "issue_for_session",
    "pseudonym",
    "report_short",
    "revoke_owner",
    "revoke_token",
    "short",
    "verify",
]
