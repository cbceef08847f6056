"""What model requests took: counts that add up, and the estimate of a request that was cut off."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.prices import Prices

#: What the column of a count holds.
MOST_TOKENS = 2**31 - 1
#: Far more than any run costs, and far less than a BIGINT holds.
MOST_MICROS = 2**53 - 1
#: Bytes of text to a token in an estimate. It is charged, so it is rather too low; a window needs the other side.
BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that model requests took, as the provider counted them. `input_tokens` includes cached ones."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    #: Micro-units of money by the prices of the models; 0 where there are none.
    cost: int = 0
    #: Some of it was not counted by a provider: a request was cut off, or nothing was told of it.
    estimated: bool = False

    def __add__(self, other: Usage) -> Usage:
        return Usage.of(
            [min(mine + its, MOST_TOKENS) for mine, its in zip(self.counts, other.counts, strict=True)],
            cost=min(self.cost + other.cost, MOST_MICROS),
            estimated=self.estimated or other.estimated,
        )

    @classmethod
    def of(cls, counts: Sequence[int], *, cost: int = 0, estimated: bool = False) -> Usage:
        """From what `counts` says."""
        input_tokens, output_tokens, cache_read_tokens, cache_write_tokens = counts
        return cls(input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost, estimated)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Input, output, read from a cache, written to one."""
        return self.input_tokens, self.output_tokens, self.cache_read_tokens, self.cache_write_tokens

    @property
    def total_tokens(self) -> int:
        return min(self.input_tokens + self.output_tokens, MOST_TOKENS)

    def beyond(self, other: Usage) -> Usage:
        """How much more of each kind this counts than *other*; never less than nothing."""
        return Usage.of([max(0, mine - its) for mine, its in zip(self.counts, other.counts, strict=True)])

    def priced(self, prices: Prices | None) -> Usage:
        """The same tokens with what they cost."""
        return self if prices is None else replace(self, cost=min(prices.cost(*self.counts), MOST_MICROS))

    def to_json(self) -> dict[str, int | bool]:
        """The `usageJson` of a terminal event; `estimated` stands in it only where that is so."""
        counted: dict[str, int | bool] = {
            "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens,
            "cacheReadTokens": self.cache_read_tokens,
            "cacheWriteTokens": self.cache_write_tokens,
            "totalTokens": self.total_tokens,
        }
        return counted | {"estimated": True} if self.estimated else counted


def tokens_of(size: int) -> int:
    """About how many tokens *size* bytes of text are."""
    return min(-(-size // BYTES_PER_TOKEN), MOST_TOKENS)


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A model request that is under way: all that whoever ends its session needs to estimate it."""

    #: An estimate.
    input_tokens: int
    prices: Prices | None = None
    #: What the model has said stands in events above this seq.
    after: int = 0

    def estimate(self, said: int) -> Usage:
        """What it took if it ends here, after *said* bytes of text and reasoning."""
        return replace(Usage(self.input_tokens, tokens_of(said)).priced(self.prices), estimated=True)

    def to_text(self) -> str:
        """For a column of the session."""
        prices = self.prices and [
            self.prices.input, self.prices.output, self.prices.cache_read, self.prices.cache_write
        ]  # fmt: skip
        return json.dumps([self.input_tokens, self.after, prices], separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> OpenRequest:
        input_tokens, after, prices = json.loads(text)
        return cls(input_tokens, None if prices is None else Prices(*prices), after)
