"""A stop that stops, in every state; `benchmarks/cancel_latency.py` measures it with more sessions."""

from __future__ import annotations

import pytest

from tests.chaos.cancels import STATES, measure
from tests.chaos.deployment import Deployment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.parametrize("state", STATES)
def test_a_cancel_ends_everything_within_a_second_and_nothing_is_appended(deployment: Deployment, state: str) -> None:
    result = measure(deployment, state, 12)

    assert result.broken == []
    assert len(result.took_s) == 12
    assert max(result.took_s) < 1.0
