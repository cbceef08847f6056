"""What the official SDK of OpenAI does with a server; prints what it saw as JSON.

python openai_client.py URL '{"answers": MODEL, "holds": MODEL, "fails": MODEL}'
"""

from __future__ import annotations

import json
import sys
from typing import Any

from openai import APIStatusError, OpenAI

QUESTION = "Сколько? 🙂"


def chat(client: OpenAI, models: dict[str, str]) -> dict[str, Any]:
    asked: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    whole = client.chat.completions.create(model=models["answers"], messages=asked)
    chunks = list(
        client.chat.completions.create(
            model=models["answers"], messages=asked, stream=True, stream_options={"include_usage": True}
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    held = client.chat.completions.create(model=models["holds"], messages=asked, stream=True)
    for chunk in held:
        if chunk.choices[0].delta.content:
            break
    held.close()
    return {
        "models": [model.id for model in client.models.list()],
        "whole": whole.choices[0].message.content,
        "tokens": whole.usage and whole.usage.total_tokens,
        "streamed": "".join(delta.content or "" for delta in deltas),
        "reasoning": "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas),
        "streamedTokens": chunks[-1].usage and chunks[-1].usage.total_tokens,
        "stopped": held.response.headers["x-backchat-session"],
        "unknown": refused(lambda: client.chat.completions.create(model="none", messages=asked)),
        "failed": refused(lambda: client.chat.completions.create(model=models["fails"], messages=asked)),
    }


def responses(client: OpenAI, models: dict[str, str]) -> dict[str, Any]:
    created = client.responses.create(model=models["answers"], input=QUESTION, background=True)
    events = list(client.responses.retrieve(created.id, stream=True))
    rest = list(client.responses.retrieve(created.id, stream=True, starting_after=3))
    held = client.responses.create(model=models["holds"], input=QUESTION, background=True, stream=True)
    begun = next(event.response.id for event in held if event.type == "response.created")
    for event in held:
        if event.type == "response.output_text.delta":
            break
    held.close()
    return {
        "created": created.status,
        "numbers": [event.sequence_number for event in events],
        "rest": [event.sequence_number for event in rest],
        "kinds": [item.type for item in client.responses.retrieve(created.id).output],
        "text": client.responses.retrieve(created.id).output_text,
        "left": client.responses.retrieve(begun).status,
        "cancelled": client.responses.cancel(begun).status,
        "again": client.responses.retrieve(begun).status,
        "deleted": client.responses.delete(begun) is None,
        "gone": refused(lambda: client.responses.retrieve(begun)),
    }


def refused(call: Any) -> list[Any]:
    """Status and code of what *call* raises."""
    try:
        call()
    except APIStatusError as error:
        return [error.status_code, error.code]
    return []


if __name__ == "__main__":
    url, models = sys.argv[1], json.loads(sys.argv[2])
    with OpenAI(base_url=f"{url}/v1", api_key="any") as made:
        print(json.dumps({"chat": chat(made, models), "responses": responses(made, models)}))
