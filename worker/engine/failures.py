"""What a model's failure means for the turn: its stable code, and whether another try makes sense.

Servers that call themselves compatible name the same failure in many ways. What they say decides first, then the
status, then the kind of error that the client made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic_ai import exceptions as ai

from worker.orchestrator import TurnFailed

from . import provider_words
from .failure_meanings import meaning_of

#: Tries of one model request, when nothing of its answer was shown yet.
MAX_TRIES = 3
#: Pause before the second try; doubles after that.
FIRST_PAUSE_S = 0.5
#: A server that asks for a longer pause than this is told no.
LONGEST_RETRY_AFTER_S = 30.0

#: Kinds of errors; first match decides. Details are sentences for the user: what the provider said may hold secrets.
_FAILURES: tuple[tuple[type[Exception], str, str], ...] = (
    (ai.ModelAuthenticationError, "model_auth", "The model provider refused the credentials."),
    (ai.ModelQuotaExceededError, "model_quota_exceeded", "The quota at the model provider is used up."),
    (ai.ModelRateLimitError, "model_rate_limited", "The model provider is limiting requests; try again later."),
    (ai.ModelTimeoutError, "model_timeout", "The model did not answer in time."),
    (ai.ModelRequestTimeout, "model_timeout", "The model did not answer in time."),
    (ai.ModelContextWindowExceededError, "context_too_long", "The conversation is too long for the model."),
    (ai.ModelNotFoundError, "model_not_found", "The model provider does not know this model."),
    (ai.ModelConnectionError, "model_unavailable", "The connection to the model failed."),
    (ai.ModelServerError, "model_unavailable", "The model provider failed."),
    (ai.ModelUnavailableError, "model_unavailable", "The model is not available at the moment."),
    (ai.ContentFilterError, "content_filtered", "The model provider filtered the answer."),
    (ai.OutputTokenLimitExceeded, "answer_too_long", "The model ran out of tokens before it answered."),
    (ai.UsageLimitExceeded, "too_many_model_requests", "The turn needed more model requests than are allowed."),
)
_DETAILS = {code: detail for _, code, detail in reversed(_FAILURES)}
_BY_STATUS = {
    401: "model_auth",
    402: "model_quota_exceeded",
    403: "model_auth",
    404: "model_not_found",
    408: "model_timeout",
    413: "context_too_long",
    429: "model_rate_limited",
}
_PASSING = frozenset({"model_rate_limited", "model_unavailable"})

#: What a status decides whatever is said, unless it is one of these.
_STATUS_UNLESS = {
    401: frozenset({"model_quota_exceeded"}),
    402: frozenset[str](),
    403: frozenset({"content_filtered", "model_quota_exceeded", "model_not_found"}),
    404: frozenset({"content_filtered"}),
    408: frozenset[str](),
    413: frozenset({"content_filtered"}),
    429: frozenset({"model_quota_exceeded"}),
}


@dataclass(frozen=True, slots=True)
class ModelFailure:
    """A failed model request."""

    code: str
    #: For the user.
    detail: str
    #: Seconds that the provider asks to wait; None: it does not say.
    retry_after_s: float | None
    #: It said that it has too much to do, and did not merely fail.
    overloaded: bool
    #: In the provider's own words.
    words: str

    @property
    def passing(self) -> bool:
        """Another try may help."""
        return self.code in _PASSING and (self.retry_after_s or 0.0) <= LONGEST_RETRY_AFTER_S


def failure_of(error: Exception, *keys: str) -> ModelFailure:
    """What *error* of a model request means; its words are told without *keys*."""
    if isinstance(error, TurnFailed):
        return ModelFailure(error.code, error.detail, None, False, error.provider_said or "")
    body = getattr(error, "body", None)
    said = provider_words.read(body if body is not None else str(error))
    status = getattr(error, "status_code", None) or (said.status if isinstance(error, ai.ModelAPIError) else None)
    code = _code(error, said, status)
    asked = error.retry_after if isinstance(error, ai.ModelAPIError) else None
    asked = said.retry_after_s if asked is None else asked
    overloaded = code == "model_rate_limited" or (
        code == "model_unavailable" and (status in (503, 529) or isinstance(error, ai.ModelOverloadedError))
    )
    return ModelFailure(code, _detail(error, code, status), asked, overloaded, _words(error, body, status, keys))


def _code(error: Exception, said: provider_words.Said, status: int | None) -> str:
    for kind in (ai.ModelTimeoutError, ai.ModelRequestTimeout, ai.UsageLimitExceeded, ai.OutputTokenLimitExceeded):
        if isinstance(error, kind):
            return _of_kind(error)
    meant = meaning_of(said) if isinstance(error, ai.ModelAPIError | ai.UnexpectedModelBehavior) else ""
    if status in _STATUS_UNLESS:
        return meant if meant in _STATUS_UNLESS[status] else _BY_STATUS[status]
    if meant and not isinstance(error, ai.ModelConnectionError):
        return meant
    if known := _of_kind(error):
        return known
    return "model_unavailable" if status is not None and status >= 500 else "model_error"


def _of_kind(error: Exception) -> str:
    return next((code for kind, code, _ in _FAILURES if isinstance(error, kind)), "")


def _detail(error: Exception, code: str, status: int | None) -> str:
    for kind, of_kind, detail in _FAILURES:
        if code == of_kind and isinstance(error, kind):
            return detail
    if code in _DETAILS:
        return _DETAILS[code]
    if status is not None:
        return f"The model provider answered with status {status}."
    return "The model's answer could not be used."


def _words(error: Exception, body: Any, status: int | None, keys: tuple[str, ...]) -> str:
    cause = error.__cause__
    said = body if isinstance(body, str) else provider_words.as_text(body) if body is not None else str(error)
    if body is None and cause is not None and str(cause) not in said:
        said = f"{said}: {cause}"
    return provider_words.without_keys(f"{status}: {said}" if status is not None else said, *keys)
