"""What a model's failure means for the turn: its stable code, and whether another try makes sense."""

from __future__ import annotations

from pydantic_ai import exceptions as ai

from worker.orchestrator import TurnFailed

#: Tries of one model request, when nothing of its answer was shown yet.
MAX_TRIES = 3
#: Pause before the second try; doubles after that.
FIRST_PAUSE_S = 0.5
#: A server that asks for a longer pause than this is told no.
LONGEST_RETRY_AFTER_S = 30.0

#: First match decides. Details are sentences for the user: what the provider said may hold secrets.
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
_BY_STATUS = {
    401: "model_auth",
    403: "model_auth",
    404: "model_not_found",
    408: "model_timeout",
    429: "model_rate_limited",
}
_PASSING = frozenset({"model_rate_limited", "model_unavailable"})


def turn_failed(error: Exception) -> TurnFailed:
    """The failure of the turn that *error* of a model request means."""
    for kind, code, detail in _FAILURES:
        if isinstance(error, kind):
            return TurnFailed(code, detail)
    if isinstance(error, ai.ModelHTTPError):
        code = _BY_STATUS.get(error.status_code, "model_unavailable" if error.status_code >= 500 else "model_error")
        return TurnFailed(code, f"The model provider answered with status {error.status_code}.")
    return TurnFailed("model_error", "The model's answer could not be used.")


def pause_before_retry_s(error: Exception, tries: int) -> float | None:
    """How long to wait before the next try of a model request that failed *tries* times; None: don't."""
    if tries >= MAX_TRIES or turn_failed(error).code not in _PASSING:
        return None
    asked = error.retry_after if isinstance(error, ai.ModelAPIError) else None
    if asked is None:
        return FIRST_PAUSE_S * float(2 ** (tries - 1))
    return max(asked, 0.0) if asked <= LONGEST_RETRY_AFTER_S else None
