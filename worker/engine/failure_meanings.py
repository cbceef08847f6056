"""What providers call the failures of a model request, in their codes and in their words."""

from __future__ import annotations

import re

from .provider_words import Said

#: First match decides.
_MEANINGS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (code, re.compile("|".join(patterns)))
    for code, patterns in (
        (
            "context_too_long",
            (
                r"context[_ -]?(?:length|window|size|limit)",
                r"exceed\w* (?:the )?(?:available |maximum |model'?s? )*(?:context|token limit|model token)",
                r"(?:prompt|input|request|messages?)(?: is| are|_is)?[_ ]too[_ ](?:long|large)",
                r"maximum (?:context|prompt|input) length|max_prompt_tokens|maximum number of (?:input )?tokens",
                r"reduce the (?:length|number) of|(?:prompt|input) (?:length )?exceeds|range of input length",
                r"input token count|inputs?` tokens|too many (?:input )?tokens|string_above_max_length",
                r"tokens to keep from the initial prompt|when context the overflows|request too large|n_ctx",
            ),
        ),
        (
            "content_filtered",
            (
                r"content[_ ]?(?:filter|policy|management|moderation|exists risk)|responsible_?ai",
                r"prohibited_content|data_?inspection|usage polic|moderation|guardrail|(?:was|been|is) flagged",
                r"considered high risk|unsafe content|(?:sensitive|inappropriate) content",
                r"safety (?:system|filter|polic)|blocked by|content filtering|blocklist|\bsafety\b.{0,20}\bblock",
            ),
        ),
        (
            "model_quota_exceeded",
            (
                r"insufficient[_ ](?:quota|balance|credits?|funds)|exceeded_current_quota_error|payment required",
                r"(?:billing|credit|spend)[_a-z]*(?:hard_)?limit|credit[_ ]balance|out of credits|balance is too low",
                r"usage_limit_(?:reached|exceeded)|account (?:is )?(?:suspended|in arrears)|arrearage|余额不足",
            ),
        ),
        (
            "model_auth",
            (
                r"(?:invalid|incorrect|wrong|missing|no|unknown|expired)[_ ](?:api|access)[_ ]?(?:key|token)",
                r"api[_ ]key[_ ](?:not[_ ]valid|invalid|missing|expired|not[_ ]found)|authentication_error",
                r"unauthenticated|permission_denied|unauthorized|authentication fails|invalid authentication",
            ),
        ),
        (
            "model_not_found",
            (
                r"model_?not_?(?:found|exist)|deploymentnotfound|no models? (?:is |are )?loaded|no endpoints found",
                r"model\b.{1,120}(?:not found|does ?n[o']t exist|not exist|is not available for)",
                r"unknown model|no such model|not a valid model|invalid model(?: name| id)?\b|try pulling it first",
            ),
        ),
        (
            "model_rate_limited",
            (
                r"rate[_ -]?limit|too[_ ]many[_ ]requests|resource_?exhausted|throttl|requests? per (?:min|second|day)",
                r"concurren\w+[_ ](?:request )?limit|max(?:imum)? (?:organization )?concurrency|slow down",
                r"tokens per min",
            ),
        ),
        ("model_timeout", (r"\b(?:gateway|upstream|request|operation)[_ ]time(?:d)?[_ ]?out",)),
        (
            "model_unavailable",
            (
                r"overloaded|over capacity|unavailable|server[_ ]?(?:is )?busy|bad gateway|upstream",
                r"no (?:available|healthy)",
                r"(?:internal|api)[_ ]?(?:server)?[_ ]error|server_error|disconnected|insufficient_system_resource",
                r"connection (?:error|reset|refused|closed)|try again later|network_error|at capacity|still loading",
            ),
        ),
    )
)


def meaning_of(said: Said) -> str:
    """The code that *said* means; empty: it does not tell."""
    # Codes are chosen with more care than words.
    for text in (" ".join(sorted(said.codes)), said.text):
        for code, pattern in _MEANINGS:
            if pattern.search(text):
                return code
    return ""
