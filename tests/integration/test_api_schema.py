"""Whatever is sent, every answer is one that the OpenAPI document declares, and none is a 500."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from app.events import Delta, Done, Thinking, ToolCall
from tests.factories import make_claim, make_session, write

EXAMPLES = 12


@pytest.fixture
def api(make_client: Callable[..., FlaskClient]) -> Any:
    """The document of a running application, with sessions of every state in its database."""
    app = make_client().application
    make_session()
    claim = make_claim()
    write(
        claim, Thinking(""), Delta("x"), ToolCall("c", "tool", {"a": 1}), ToolCall("c", "tool", {"a": 1}, "r", True, 1)
    )
    claim = make_claim()
    write(claim, Thinking(""), Done("x"))
    document = schemathesis.openapi.from_wsgi("/openapi.json", app)
    # A message may be refused for its length by its body's length.
    document.config.checks.negative_data_rejection.expected_statuses = ["400", "404", "405", "413", "415", "422"]
    return document


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "not allowed"])
def test_every_answer_is_declared(api: Any, mode: GenerationMode) -> None:
    wrong: dict[str, BaseException] = {}
    operations = [result.ok() for result in api.get_all_operations()]

    for operation in operations:
        try:
            check(operation, mode)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - all operations are told at once
            wrong[operation.label] = error

    assert len(operations) > 15
    assert not wrong, "\n\n".join(f"{label}: {error}" for label, error in wrong.items())


def check(operation: Any, mode: GenerationMode) -> None:
    """Send what *mode* says to one operation."""

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def send(case: schemathesis.Case) -> None:
        # Unpacking is the client's work, and this one's does none.
        case.call_and_validate(checks=CHECKS, headers={"Accept-Encoding": "identity"})

    try:
        send()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # nothing can be wrong about what takes nothing


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
