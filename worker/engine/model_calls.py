"""The model requests of one turn: their places at the provider, what is shown, other tries, the fallback."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import AgentRunError, ModelAPIError
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
)
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.settings import ModelSettings

from app.events import Delta, Thinking, Usage
from worker.orchestrator import Asked, Checkpoint, Turn, TurnFailed, Withdrawal, Yielded

from . import watched
from .argument_bounds import ArgumentBounds
from .checkpoint import Progress
from .failures import MAX_TRIES, ModelFailure, failure_of
from .finish_reasons import broke_off, reason_of
from .parameters import refused, settings_of, unsupported
from .provider_limits import Place, ProviderLimits
from .providers import Providers
from .request_size import size_of
from .thoughts import Piece, Thoughts

logger = logging.getLogger(__name__)

#: Failures that say nothing of another model.
_OF_THE_TURN = frozenset({"context_too_long", "content_filtered", "answer_too_long", "too_many_model_requests"})
#: With a fallback, nobody waits longer than this for the model itself.
_PATIENCE_S = 3.0

Say = Callable[[Yielded], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the model."""

    response: ModelResponse
    #: What of it is for the user, without thoughts.
    text: str
    #: Why the model stopped, in the words of `worker.engine.finish_reasons`.
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class _Request:
    model: Model
    settings: ModelSettings
    messages: list[ModelMessage]
    parameters: ModelRequestParameters


class ModelCalls:
    """See the module's docstring.

    Args:
        progress: Says which model the turn goes on with; a change to the fallback is committed with it.
    """

    def __init__(self, turn: Turn, providers: Providers, limits: ProviderLimits, progress: Progress, say: Say) -> None:
        self.turn = turn
        self._providers = providers
        self._limits = limits
        self._progress = progress
        self._say = say
        self._shown = False

    @property
    def name(self) -> str:
        """The model that is asked."""
        return self._progress.model or self.turn.model

    def model(self) -> tuple[Model, ModelSettings]:
        model, own = self._providers.model(self.name)
        asked = settings_of(self.turn.parameters, model)
        return model, ModelSettings(**own, **asked) if asked else own

    async def ask(self, messages: list[ModelMessage], parameters: ModelRequestParameters, before: str) -> Answer:
        """One answer; shows it while it comes, after the text *before* of the turn's earlier ones.

        Raises:
            TurnFailed: it failed for good.
        """
        place: Place | None = None
        tries = 0
        while True:
            tries += 1
            showing = _Showing(before, self._say, ArgumentBounds(self.turn.settings))
            try:
                model, model_settings = self.model()
                place = place or self._place(model)
                return await self._try(place, _Request(model, model_settings, messages, parameters), showing)
            except (AgentRunError, TurnFailed) as error:
                failure = self._failure(error)
                self._shown = self._shown or showing.shown
                falls_back = self._may_fall_back(failure)
                # While others are taken, having to wait is no failure.
                waits = place is not None and place.others_passed and not falls_back
                again = failure.passing and not showing.shown and (waits or tries < MAX_TRIES)
                if falls_back and (failure.retry_after_s or 0.0) > _PATIENCE_S:
                    again = False
                self._log(failure, tries, "again" if again else "fallback" if falls_back else "failed")
                if again:
                    tries -= waits
                elif falls_back:
                    await self._fall_back()
                    place, tries = None, 0
                else:
                    raise TurnFailed(failure.code, failure.detail, provider_said=failure.words) from error

    async def ready(self) -> Model:
        """The model that will be asked; the fallback if the deployment has not set up the other one.

        Raises:
            TurnFailed: there is none.
        """
        try:
            return self.model()[0]
        except TurnFailed as error:
            failure = self._failure(error)
            if not self._may_fall_back(failure):
                raise
            self._log(failure, 1, "fallback")
            await self._fall_back()
            return self.model()[0]

    def _place(self, model: Model) -> Place | None:
        address = getattr(model, "base_url", None)
        return self._limits.of(address).place() if address else None

    async def _try(self, place: Place | None, request: _Request, showing: _Showing) -> Answer:
        if place is None:
            return await self._watched(request, showing, place)
        async with place.at(self.name):
            return await self._watched(request, showing, place)

    async def _watched(self, request: _Request, showing: _Showing, place: Place | None) -> Answer:
        with watched.model_request(self.name) as seen:
            try:
                answer = await self._answer(request, showing, place)
            except (AgentRunError, TurnFailed) as error:
                failure = self._failure(error)
                seen.failed(failure.code)
                if place is not None:
                    place.failed(failure)
                raise
            seen.answered(answer.response, answer.text, answer.finish_reason)
            return answer

    async def _answer(self, request: _Request, showing: _Showing, place: Place | None) -> Answer:
        await self._say(Asked(size_of(request.messages), self.name))
        accepted = False
        try:
            async with model_request_stream(
                request.model,
                request.messages,
                model_settings=request.settings,
                model_request_parameters=request.parameters,
                instrument=False,
            ) as stream:
                accepted = True
                if place is not None:
                    place.accepted()
                await showing.follow(stream)
                response = stream.get()
        except AgentRunError:
            if not accepted:
                # Refused or not reached: it took nothing.
                await self._say(Usage())
            raise
        except TurnFailed:
            raise
        except Exception as error:
            # Clients take what a server sends as it is, and stumble later over what should not be in it.
            logger.warning("model answer makes no sense", exc_info=error, extra=self._fields())
            raise TurnFailed("model_error", "The model's answer could not be used.") from error
        reason = reason_of(response)
        if reason == "error":
            raise ModelAPIError(self.name, "the provider broke the answer off", body=broke_off(response))
        await showing.finish(complete=not response.tool_calls and reason != "length")
        self._shown = self._shown or showing.shown
        return Answer(response, showing.text, reason)

    def _may_fall_back(self, failure: ModelFailure) -> bool:
        fallback = self.turn.agent.fallback
        if not fallback or fallback == self.name or failure.code in _OF_THE_TURN:
            return False
        # What was shown or committed is of this model: another one would contradict it.
        return not self._shown and not self._progress.messages

    async def _fall_back(self) -> None:
        """Go on with the fallback, in later attempts as well."""
        self._progress.model = self.turn.agent.fallback
        await self._say(Checkpoint(self._progress.to_state()))

    def _failure(self, error: Exception) -> ModelFailure:
        failure = failure_of(error, self.turn.settings.openai_api_key)
        if failure.code == "model_error" and (names := refused(self.turn.parameters, failure.words)):
            named = unsupported(*names)
            return replace(failure, code=named.code, detail=named.detail)
        return failure

    def _log(self, failure: ModelFailure, tries: int, then: str) -> None:
        fields = {"model": self.name, "code": failure.code, "tries": tries, "then": then}
        logger.warning("model request failed", extra=self._fields() | fields | {"provider_said": failure.words})

    def _fields(self) -> dict[str, object]:
        return {"session_id": self.turn.session_id, "attempt": self.turn.attempt}


class _Showing:
    """Shows one response while it comes, thoughts as thoughts."""

    def __init__(self, before: str, say: Say, bounds: ArgumentBounds) -> None:
        self._say = say
        self._bounds = bounds
        self._thoughts = Thoughts()
        self._thought = ""
        #: Text after a tool call is a paragraph of its own.
        self._separate = bool(before) and not before.endswith("\n")
        #: A second try would show it twice.
        self.shown = False
        #: What is for the user.
        self.text = ""

    async def follow(self, stream: StreamedResponse) -> None:
        async for event in stream:
            self._bounds.watch(event)
            match event:
                case (
                    PartStartEvent(part=TextPart(content=text))
                    | PartDeltaEvent(delta=TextPartDelta(content_delta=text))
                ) if text:
                    await self._show(self._thoughts.feed(text))
                case (
                    PartStartEvent(part=ThinkingPart(content=text))
                    | PartDeltaEvent(delta=ThinkingPartDelta(content_delta=text))
                ) if text:
                    await self._show([Piece("thought", text)])

    async def finish(self, *, complete: bool) -> None:
        await self._show(self._thoughts.finish(complete=complete))

    async def _show(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            self.shown = True
            if piece.kind == "answer":
                text = piece.text
                if self._separate and not self.text:
                    text = "\n\n" + text.lstrip("\n")
                self.text += text
                await self._say(Delta(text))
                continue
            thought = piece.text
            if piece.kind == "withdrawn":
                await self._say(Withdrawal())
                self.text, thought = "", self._thought + thought
                self._thought = ""
            self._thought += thought
            await self._say(Thinking(thought))
