"""What LangChain and LiteLLM do with a server; prints what they saw as JSON. Called as `openai_client.py` is."""

from __future__ import annotations

import json
import sys
from typing import Any

import litellm
from langchain_openai import ChatOpenAI
from openai import OpenAIError

QUESTION = "Сколько? 🙂"


def langchain(url: str, models: dict[str, str], *, responses: bool) -> dict[str, Any]:
    def model(name: str) -> ChatOpenAI:
        return ChatOpenAI(model=models[name], base_url=f"{url}/v1", api_key="any", use_responses_api=responses)

    streamed = "".join(chunk.text for chunk in model("answers").stream(QUESTION))
    try:
        failed = model("fails").invoke(QUESTION).text
    except (OpenAIError, ValueError) as error:
        failed = str(error)
    return {"whole": model("answers").invoke(QUESTION).text, "streamed": streamed, "failed": failed}


def of_litellm(url: str, models: dict[str, str]) -> dict[str, Any]:
    asked: Any = {
        "model": f"openai/{models['answers']}",
        "api_base": f"{url}/v1",
        "api_key": "any",
        "messages": [{"role": "user", "content": QUESTION}],
    }
    chunks = [chunk.choices[0].delta for chunk in litellm.completion(**asked, stream=True)]
    return {
        "whole": litellm.completion(**asked).choices[0].message.content,
        "streamed": "".join(delta.content or "" for delta in chunks),
        "reasoning": "".join(getattr(delta, "reasoning_content", None) or "" for delta in chunks),
    }


if __name__ == "__main__":
    url, models = sys.argv[1], json.loads(sys.argv[2])
    seen = {
        "langchain": langchain(url, models, responses=False),
        "langchainResponses": langchain(url, models, responses=True),
        "litellm": of_litellm(url, models),
    }
    print(json.dumps(seen))
