"""Prices: what tokens of a model cost, and what a count of them comes to."""

from __future__ import annotations

from dataclasses import dataclass

#: Prices are of so many tokens.
TOKENS = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """Of one model: whole micro-units of the deployment's currency for a million tokens of each kind."""

    input: int
    output: int
    cache_read: int
    cache_write: int

    def cost(self, input_tokens: int, output_tokens: int, cache_read_tokens: int, cache_write_tokens: int) -> int:
        """Micro-units that these tokens cost, rounded up. *input_tokens* includes cached ones."""
        plain = max(0, input_tokens - cache_read_tokens - cache_write_tokens)
        total = (
            plain * self.input
            + output_tokens * self.output
            + cache_read_tokens * self.cache_read
            + cache_write_tokens * self.cache_write
        )
        return -(-total // TOKENS)
