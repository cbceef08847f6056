"""OpenAI's SDK while something dies: a chat completion, and a response that is taken up again where its stream broke.

python watching.py URL '{"slow": MODEL}' chat|responses
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import httpx2
from openai import APIConnectionError, OpenAI

QUESTION = "Сколько? 🙂"
#: Within this the server is back.
PATIENCE_S = 60


def chat(client: OpenAI, model: str) -> dict[str, Any]:
    asked: Any = [{"role": "user", "content": QUESTION}]
    stream = client.chat.completions.create(model=model, messages=asked, stream=True)
    return {"text": "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)}


def responses(client: OpenAI, model: str) -> dict[str, Any]:
    created = client.responses.create(model=model, input=QUESTION, background=True)
    numbers: list[int] = []
    breaks = 0
    ended = None
    deadline = time.monotonic() + PATIENCE_S
    while ended is None and time.monotonic() < deadline:
        after: Any = {"starting_after": numbers[-1]} if numbers else {}
        try:
            for event in client.responses.retrieve(created.id, stream=True, **after):
                numbers.append(event.sequence_number)
                if event.type == "response.completed":
                    ended = event.response
        except (APIConnectionError, httpx2.HTTPError):
            breaks += 1
            time.sleep(0.1)
    replayed = [event.sequence_number for event in client.responses.retrieve(created.id, stream=True)]
    return {"text": ended and ended.output_text, "numbers": numbers, "replayed": replayed, "breaks": breaks}


if __name__ == "__main__":
    url, models, kind = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
    with OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as made:
        print(json.dumps({"chat": chat, "responses": responses}[kind](made, models["slow"])))
