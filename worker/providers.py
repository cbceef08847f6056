"""Models by name, and the HTTP connections behind them: made once in a process, shared by its turns."""

from __future__ import annotations

import functools
from collections.abc import Callable

import httpx2
from openai import AsyncOpenAI
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from app.settings import Settings

from .demo_model import demo_model
from .model_transport import ModelTransport
from .orchestrator import TurnFailed

OPENAI_URL = "https://api.openai.com/v1"
#: A server that does not take a connection for this long is away.
CONNECT_TIMEOUT_S = 5.0

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
        self._transport = ModelTransport()
        self._openai: OpenAIProvider | None = None
        # Names come with requests: remember the recent ones, not all.
        self.model: Callable[[str], tuple[Model, ModelSettings]] = functools.lru_cache(maxsize=64)(self._make)

    def _make(self, name: str) -> tuple[Model, ModelSettings]:
        """The model called *name*, and what has to be said with each request to it.

        Raises:
            TurnFailed: `model_not_found` or, without a key, `model_auth`.
        """
        prefix, _, model_name = name.partition(":")
        if prefix == "demo":
            return demo_model(), ModelSettings()
        if prefix in _OPENAI and model_name:
            # Its client knows timeout and retries: saying them with a request would copy the client each time.
            return _OPENAI[prefix](model_name, provider=self._openai_provider()), ModelSettings()
        try:
            return infer_model(name), ModelSettings(timeout=self._settings.model_timeout_s, max_retries=0)
        except (UserError, ImportError, ValueError) as error:
            raise TurnFailed("model_not_found", f"The model {name!r} can't be used here.") from error

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
                http_client=httpx2.AsyncClient(transport=self._transport, timeout=timeout),
            )
            self._openai = OpenAIProvider(openai_client=client)
        return self._openai

    async def aclose(self) -> None:
        """Close all connections."""
        if self._openai is not None:
            await self._openai.client.close()
        await self._transport.aclose()
