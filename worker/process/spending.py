"""What a run uses: each model request is counted as it ends, and estimated if it is cut off."""

from __future__ import annotations

from collections.abc import Callable

from app.events import OpenRequest, Usage
from app.prices import Prices
from worker.orchestrator import Asked


class Spending:
    """Of one session, from what its earlier attempts had used on.

    Args:
        prices: Of a model, by its name.
        model: Whose prices hold where an orchestrator names none.
    """

    def __init__(self, used: Usage, prices: Callable[[str], Prices | None], model: str) -> None:
        self._used = used
        self._prices = prices
        self._model = model
        self._open: OpenRequest | None = None
        # Prices of the request that is open or was the last one, and what had been said before it.
        self._of_request = prices(model)
        self._said_before = 0

    def estimate(self, asked: Asked) -> Usage:
        """What the input of a request takes, about."""
        return Usage(asked.input_tokens).priced(self._prices(asked.model or self._model))

    @property
    def stored(self) -> tuple[Usage, OpenRequest | None]:
        """What the session's row is to say."""
        return self._used, self._open

    def take(self, step: Asked | Usage, said: int) -> None:
        """Count *step*; *said* are the bytes of answer and reasoning so far."""
        if isinstance(step, Usage):
            self._used += step.priced(self._of_request)
            self._open = None
            return
        # Nothing was told of the one before.
        self._used = self.used(said)
        self._of_request = self._prices(step.model or self._model)
        self._open = OpenRequest(step.input_tokens, self._of_request)
        self._said_before = said

    def used(self, said: int) -> Usage:
        """All that was used if the turn stops now, with an estimate of a request that is open."""
        if self._open is None:
            return self._used
        return self._used + self._open.estimate(max(0, said - self._said_before))

    def of_end(self, reported: Usage | None, said: int) -> Usage | None:
        """All that the turn used; *reported* is what its `Done` says of the whole of it."""
        used = self.used(said)
        if reported is not None:
            used += reported.beyond(used).priced(self._of_request)
        return used if used.total_tokens or reported is not None else None
