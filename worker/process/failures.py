"""What ended a turn, as the error event of its session."""

from __future__ import annotations

from app.errors import UnknownAgent, UnknownModel
from app.events import Error
from worker.orchestrator import TurnFailed
from worker.plain import text_of

from .door import AnswerTooLarge

#: Of what was not foreseen; the log says more.
ORCHESTRATOR_ERROR = "orchestrator_error"
#: Of the sentence that says why a turn failed.
DETAIL_CHARACTERS = 8_000


def failure_of(error: BaseException, *, late_s: int | None, max_content_bytes: int) -> Error:
    """The error event for what an orchestrator raised.

    Args:
        late_s: How long the turn might take, if it took longer; None: it had time.
    """
    if late_s is not None:
        return Error("timeout", f"the turn took longer than {late_s} s")
    if isinstance(error, TurnFailed | UnknownAgent | UnknownModel):
        code, detail = text_of(error.code), text_of(error.detail)
        said = text_of(error.provider_said) if isinstance(error, TurnFailed) else None
        return Error(
            (code or ORCHESTRATOR_ERROR)[:64],
            (detail or "")[:DETAIL_CHARACTERS],
            provider_said=said and said[:DETAIL_CHARACTERS],
        )
    if isinstance(error, AnswerTooLarge):
        return Error("answer_too_large", f"the answer is larger than {max_content_bytes} bytes")
    return Error(ORCHESTRATOR_ERROR, "the orchestrator failed; the log of the worker says why")
