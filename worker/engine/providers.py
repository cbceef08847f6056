"""Models by name, and the HTTP connections behind them: made once in a process, shared by its turns."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import httpx2
from openai import AsyncOpenAI
from pydantic_ai.models import Model, infer_model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from app.settings import Settings
from worker.orchestrator import TurnFailed

from .demo.model import demo_model
from .transport import ModelTransport

OPENAI_URL = "https://api.openai.com/v1"
#: A server that does not take a connection for this long is away.
CONNECT_TIMEOUT_S = 5.0

#: Tags that nobody sends: pydantic-ai knows them only where they come alone, `worker.engine.thoughts` everywhere.
_NO_TAGS = ModelProfile(thinking_tags=("<think >", "</think >"))
#: Prefixes of a model's name that mean OpenAI or a server compatible with it.
_OPENAI: dict[str, type[OpenAIChatModel] | type[OpenAIResponsesModel]] = {
    "openai": OpenAIResponsesModel,
    "openai-responses": OpenAIResponsesModel,
    "openai-chat": OpenAIChatModel,
}


class Providers:
    """The models that a deployment can use.

    `openai:` (responses API) and `openai-chat:` (chat completions, what most compatible servers speak) go through our
    own transport, which merges deltas. Any other provider of pydantic-ai uses its own client and its own settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._transport = ModelTransport(settings.model_keepalive_timeout_s)
        self._openai: OpenAIProvider | None = None
        # Names come with requests: remember the recent ones, not all.
        self.model: Callable[[str], tuple[Model, ModelSettings]] = functools.lru_cache(maxsize=64)(self._make)

    def _make(self, name: str) -> tuple[Model, ModelSettings]:
        """The model called *name*, and what has to be said with each request to it.

        Raises:
            TurnFailed: `model_not_found`; `model_not_configured` when its provider lacks a package or a setting;
                `model_auth` when OpenAI lacks its key.
        """
        prefix, _, model_name = name.partition(":")
        if prefix == "demo":
            return demo_model(), ModelSettings()
        if prefix in _OPENAI and model_name:
            # Its client knows timeout and retries: saying them with a request would copy the client each time.
            return _OPENAI[prefix](model_name, provider=self._openai_provider(), profile=_NO_TAGS), ModelSettings()
        # Among them pydantic-ai's `test`, a model that calls every tool with arguments that it makes up.
        if not model_name:
            raise _not_found(name)
        try:
            return infer_model(name), ModelSettings(timeout=self._settings.model_timeout_s, max_retries=0)
        except Exception as error:
            missing = _missing(error)
            if missing is None:
                raise _not_found(name) from error
            detail = f"The provider {prefix!r} is not set up on the server: {missing}."
            raise TurnFailed("model_not_configured", detail) from error

    def _openai_provider(self) -> OpenAIProvider:
        settings = self._settings
        if not settings.openai_api_key and not settings.openai_base_url:
            raise TurnFailed("model_auth", "No OPENAI_API_KEY is set.")
        if self._openai is None:
            timeout = httpx2.Timeout(settings.model_timeout_s, connect=CONNECT_TIMEOUT_S)
            client = AsyncOpenAI(
                # Servers of one's own often want none, but the SDK insists.
                api_key=settings.openai_api_key or "none",
                base_url=settings.openai_base_url or OPENAI_URL,
                # The engine retries: it knows whether something was shown already.
                max_retries=0,
                timeout=timeout,
                # As the SDK's own client does.
                http_client=httpx2.AsyncClient(transport=self._transport, timeout=timeout, follow_redirects=True),
            )
            self._openai = OpenAIProvider(openai_client=client)
        return self._openai

    async def aclose(self) -> None:
        """Close all connections."""
        if self._openai is not None:
            await self._openai.client.close()
        await self._transport.aclose()


def _not_found(name: str) -> TurnFailed:
    return TurnFailed(
        "model_not_found",
        f"The model {name!r} can't be used here: a name is 'demo' or 'provider:model', such as"
        " 'openai:gpt-5-mini', and the provider's package and key must be set up on the server.",
    )


def _missing(error: Exception) -> str | None:
    """What pydantic-ai says that has to be done before a provider can be used; None: it does not know the provider.

    Only names of packages and variables are taken from its text: the rest is for programmers, or about this machine.
    """
    text = str(error)
    if isinstance(error, ImportError):
        extra = re.search(r"pydantic-ai-slim\[[\w-]+\]", text)
        return f"install {extra[0]}" if extra else "its package is not installed"
    if text.startswith("Unknown model"):
        return None
    variables = list(dict.fromkeys(re.findall(r"`([A-Z][A-Z0-9_]+)`", text)))
    return f"set {' or '.join(variables)}" if variables else "its settings are not complete"
