"""Errors of the domain, each with a stable code that clients may test for."""

from __future__ import annotations


class BackchatError(Exception):
    """Base of all errors that are reported to the caller.

    Attributes:
        code: Stable, snake_case; part of the HTTP contract.
        detail: One sentence for a person.
    """

    code = "internal_error"

    def __init__(self, detail: str = "", **extra: object) -> None:
        super().__init__(detail or self.code)
        self.detail = detail
        self.extra = extra


class NotFound(BackchatError):
    """No such thing, or it belongs to somebody else: the two must look the same."""

    code = "not_found"


class Gone(BackchatError):
    """It existed; retention has pruned it."""

    code = "gone"


class Invalid(BackchatError):
    """The request can be read but says something that is not allowed."""

    code = "invalid_request"


class UnknownAgent(Invalid):
    """The request names an agent that is not configured."""

    code = "unknown_agent"

    @classmethod
    def of(cls, agent_id: int) -> UnknownAgent:
        """The same words for one that is not there and for one that the caller is not told of."""
        return cls(f"no agent {agent_id} is configured")


class UnknownModel(Invalid):
    """The request names a model that is not offered."""

    code = "unknown_model"

    @classmethod
    def of(cls, model: str) -> UnknownModel:
        """The same words for one that is not there and for one that the caller is not told of."""
        return cls(f"the model {model!r} is not offered: name one of CHAT_MODEL, MODELS or the agents")


class Unauthorized(BackchatError):
    """No valid credential came with the request."""

    code = "unauthorized"


class Forbidden(BackchatError):
    """The caller is known, and what they may do does not cover this."""

    code = "forbidden"


class Busy(BackchatError):
    """The conversation already has a running session and the caller asked not to wait."""

    code = "conversation_busy"


class BalanceExhausted(BackchatError):
    """Nothing is left on the owner's account."""

    code = "balance_exhausted"


class LimitReached(BackchatError):
    """As much as may be is there already; it can be tried again after `retry_s` seconds."""

    code = "limit_reached"

    def __init__(self, detail: str = "", *, retry_s: int, **extra: object) -> None:
        super().__init__(detail, **extra)
        self.retry_s = retry_s


class TooManySessions(LimitReached):
    """As many sessions of the owner run and wait as may (`MAX_SESSIONS_PER_OWNER`)."""

    code = "too_many_sessions"


class ConversationFull(LimitReached):
    """As many messages wait in the conversation as may (`MAX_SESSIONS_PER_CONVERSATION`)."""

    code = "conversation_full"


class QueueFull(LimitReached):
    """As many sessions of everybody run and wait as may (`MAX_SESSIONS`)."""

    code = "queue_full"


class TooManyPosts(LimitReached):
    """The owner has sent as many messages as may come in a minute (`POSTS_PER_MINUTE`)."""

    code = "too_many_posts"


class TooManyHeld(LimitReached):
    """As many polls and streams of the owner are held as may be (`MAX_HELD_PER_OWNER`)."""

    code = "too_many_held"


class OwnerErased(BackchatError):
    """Everything of this owner is being erased; nothing new is stored for it meanwhile."""

    code = "owner_erased"


class IdempotencyConflict(BackchatError):
    """The idempotency key was used before with another body."""

    code = "idempotency_key_reused"


class DatabaseUnavailable(BackchatError):
    """The database can't be reached; nothing was written."""

    code = "database_unavailable"


class DatabaseBusy(DatabaseUnavailable):
    """Somebody else holds what is needed; nothing was written, and a little later it may work."""

    code = "busy"


class QueueUnavailable(BackchatError):
    """Redis can't be reached; what it was asked for may have happened or not."""

    code = "queue_unavailable"


class IssuerUnavailable(BackchatError):
    """The keys of the issuer of JSON Web Tokens are not known yet."""

    code = "issuer_unavailable"


class SchemaOutdated(BackchatError):
    """The database's tables are older than the code."""

    code = "schema_outdated"


class Fenced(BackchatError):
    """The attempt is no longer current: its session was taken over, ended or deleted."""

    code = "fenced"
