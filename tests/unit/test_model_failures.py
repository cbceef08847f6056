"""What providers say of a failure, in every shape that was seen, means one of a few codes."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from openai import APIError, APIStatusError
from pydantic_ai.models.openai._errors import map_api_errors

from worker.engine.failures import ModelFailure, failure_of
from worker.engine.provider_words import MAX_WORDS, without_keys


def failed(status: int, body: Any, **headers: str) -> ModelFailure:
    """The failure that a refused request is, through the clients' own errors."""
    request = httpx2.Request("POST", "http://server/v1/chat/completions")
    response = httpx2.Response(status, json=body, headers=headers, request=request)
    inner = body.get("error", body) if isinstance(body, dict) else body
    return _through_client(APIStatusError("refused", response=response, body=inner))


def failed_inside(error: Any) -> ModelFailure:
    """The failure that an error within a stream is."""
    request = httpx2.Request("POST", "http://server/v1/chat/completions")
    text = error.get("message") if isinstance(error, dict) else None
    return _through_client(APIError(text or "An error occurred during streaming", request=request, body=error))


def _through_client(error: Exception) -> ModelFailure:
    try:
        with map_api_errors("some-model"):
            raise error
    except Exception as raised:  # noqa: BLE001 - whatever the client makes of it
        return failure_of(raised)


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"code": 400, "message": "the request exceeds the available context size", "n_ctx": 8192}},
        {"error": {"code": 400, "type": "exceed_context_size_error", "message": "x"}},
        {"object": "error", "message": "This model's maximum context length is 8192 tokens.", "code": 400},
        {"error": {"message": "x", "code": "model_max_prompt_tokens_exceeded"}},
        {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000"},
        {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"},
        {"error": {"message": "Invalid request: Your request exceeded model token limit: 8192"}},
        {"error": {"message": "litellm.ContextWindowExceededError: prompt is too long: 210000 tokens > 200000"}},
        {"detail": [{"type": "value_error", "msg": "Input is too long for requested model."}]},
        [{"error": {"code": 400, "message": "The input token count (9) exceeds the maximum number of tokens (8)"}}],
        {"error": {"message": "Provider error", "metadata": {"raw": '{"error":{"code":"context_length_exceeded"}}'}}},
        {"error": {"message": "Range of input length should be [1, 30720]"}},
    ],
)  # fmt: skip
def test_a_conversation_that_is_too_long_is_that_under_every_name(said: Any) -> None:
    assert failed(400, said).code == "context_too_long"


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"code": "content_filter", "message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
        {"error": {"message": "The response was filtered due to the prompt triggering our content management policy."}},
        {"error": {"message": "Content Exists Risk", "type": "invalid_request_error", "code": "invalid_request_error"}},
        {"code": "DataInspectionFailed", "message": "Output data may contain inappropriate content."},
        {"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容 (sensitive content)"}},
        {
            "error": {
                "message": "The request was rejected because it was considered high risk",
                "type": "content_filter",
            }
        },
        {"error": {"message": "litellm.ContentPolicyViolationError: refused", "code": 400}},
        {"error": {"code": 400, "message": "Output blocked by content filtering policy"}},
        {"error": {"code": "invalid_prompt", "message": "Your prompt was flagged as violating our usage policy"}},
    ],
)
def test_a_filter_is_that_under_every_name(said: Any) -> None:
    assert failed(400, said).code == "content_filtered"


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (402, {"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}, "model_quota_exceeded"),
        (429, {"error": {"type": "exceeded_current_quota_error", "message": "suspended"}}, "model_quota_exceeded"),
        (400, {"type": "error", "error": {"message": "Your credit balance is too low"}}, "model_quota_exceeded"),
        (400, [{"error": {"message": "API key not valid.", "details": [{"reason": "API_KEY_INVALID"}]}}], "model_auth"),
        (400, {"error": "model 'llama9' not found, try pulling it first"}, "model_not_found"),
        (404, {"error": {"code": "DeploymentNotFound", "message": "x"}}, "model_not_found"),
        (403, {"error": {"message": "Input was flagged", "metadata": {"reasons": ["hate"]}}}, "content_filtered"),
        (413, {"error": {"message": "Request too large", "code": "rate_limit_exceeded"}}, "context_too_long"),
        (429, {"message": "Too many tokens, please wait before trying again."}, "model_rate_limited"),
        (429, "<html><h1>429</h1></html>", "model_rate_limited"),
        (500, {"error": {"message": "context size exceeded"}}, "context_too_long"),
        (503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, "model_unavailable"),
        (520, "<html></html>", "model_unavailable"),
        (529, {"type": "error", "error": {"type": "overloaded_error"}}, "model_unavailable"),
        (418, {"error": {"message": "I'm a teapot"}}, "model_error"),
        (400, {"error": {"message": "messages must not be empty"}}, "model_error"),
    ],
)
def test_a_status_and_its_words_mean_one_code(status: int, said: Any, code: str) -> None:
    assert failed(status, said).code == code


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"code": 502, "message": "Provider returned error"}, "model_unavailable"),
        ({"code": "429", "message": "slow"}, "model_rate_limited"),
        ({"type": "overloaded_error", "message": "Overloaded"}, "model_unavailable"),
        ({"code": 400, "message": "prompt is too long"}, "context_too_long"),
        ({"status": "RESOURCE_EXHAUSTED", "message": "quota"}, "model_rate_limited"),
        ({"status_code": 1002, "status_msg": "rate limit"}, "model_rate_limited"),
        ("upstream connect error or disconnect", "model_unavailable"),
        ({"code": "insufficient_system_resource"}, "model_unavailable"),
        ({"message": "it broke"}, "model_error"),
    ],
)
def test_an_error_within_a_stream_means_what_it_means_before_one(said: Any, code: str) -> None:
    assert failed_inside(said).code == code


@pytest.mark.parametrize(
    ("headers", "said", "wait_s"),
    [
        ({"Retry-After": "7"}, {}, 7.0),
        ({"retry-after-ms": "250"}, {}, 0.25),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, {}, 0.0),
        ({"Retry-After": "soon"}, {}, None),
        ({"Retry-After": "-3"}, {}, None),
        ({}, {"error": {"details": [{"@type": "RetryInfo", "retryDelay": "14s"}]}}, 14.0),
        ({}, {"error": {"message": "Rate limit reached. Please try again in 1.5s."}}, 1.5),
        ({}, {"error": {"message": "Please try again in 20ms."}}, 0.02),
        ({}, {"error": {"message": "slow", "retry_after": 3}}, 3.0),
        ({}, {"error": {"message": "slow"}}, None),
    ],
)
def test_how_long_to_wait_is_read_wherever_it_stands(
    headers: dict[str, str], said: dict[str, Any], wait_s: float | None
) -> None:
    assert failed(429, said, **headers).retry_after_s == (None if wait_s is None else pytest.approx(wait_s))


def test_a_longer_wait_than_anybody_has_patience_for_is_no_passing_failure() -> None:
    assert failed(429, {}, **{"Retry-After": "30"}).passing
    assert not failed(429, {}, **{"Retry-After": "31"}).passing
    assert not failed(402, {}).passing


def test_the_words_of_a_provider_are_kept_without_keys() -> None:
    said = {"error": {"message": "Incorrect API key provided: sk-proj-abcd1234efgh5678ijkl", "request_id": "req_7Hq"}}

    words = failed(401, said).words

    assert words.startswith("401: ")
    assert "Incorrect API key provided" in words
    assert "req_7Hq" in words
    assert "sk-proj" not in words


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("invalid key hunter2hunter", "invalid key [key]"),
        ("Authorization: Bearer abc.def-123456", "Authorization: Bearer [key]"),
        ("url http://user:pass@host/v1", "url http://[key]@host/v1"),
        ("https://host/v1?api_key=0123456789abcdef&x=1", "https://host/v1?api_key=[key]&x=1"),
        ("token AIzaSyA1234567890abcdefghij is bad", "token [key] is bad"),
        ("key d41d8cd98f00b204e9800998ecf8427e", "key [key]"),
        ("no key was sent for model gpt-4o-mini", "no key was sent for model gpt-4o-mini"),
        ("request 0191d1f0-1f6e-7c3a-9e57-3f6c2d1b8a11 failed", "request 0191d1f0-1f6e-7c3a-9e57-3f6c2d1b8a11 failed"),
    ],
)
def test_whatever_looks_like_a_key_is_left_out(text: str, kept: str) -> None:
    assert without_keys(text, "hunter2hunter") == kept


def test_long_words_are_cut_after_their_keys_were_taken_out() -> None:
    text = "x " * (MAX_WORDS // 2 - 5) + "sk-" + "a1" * 30

    kept = without_keys(json.dumps(text))

    assert len(kept) <= MAX_WORDS
    assert "a1a1" not in kept
