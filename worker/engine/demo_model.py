"""The `demo` model: a script that reasons, calls real tools and streams, so that everything can be tried offline.

What it says depends on the message and the tools' results alone. It never pretends to be a model.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import (
    AgentInfo,
    DeltaThinkingCalls,
    DeltaThinkingPart,
    DeltaToolCall,
    DeltaToolCalls,
    FunctionModel,
)

from worker.calculator import CannotCalculate, evaluate

#: Pause between two words, so that polling shows the answer growing: two to four seconds in all.
WORD_S = 0.04
#: How much of the message is quoted.
QUOTE_CHARS = 120

_ARITHMETIC = re.compile(r"[\d(][\d\s.()+\-−*×·/÷%^]*[\d)]")
_TIME = re.compile(r"\b(time|date|day|clock|today|now)\b|врем|час|дат|сегодня|сейчас|день", re.IGNORECASE)
_CYRILLIC = re.compile(r"[а-яё]", re.IGNORECASE)

_WORDS = {
    "en": {
        "think": "The message is “{quote}”. I am a script, so I look for something that a tool can answer.",
        "plan": " I will call {tools}.",
        "no_plan": " There is nothing to call, so I just answer.",
        "open": "This is the demo model: a script that shows how an answer arrives, not a language model.",
        "quote": "You wrote: “{quote}”",
        "calculate": "The tool calculated {expression} = {result}.",
        "current_time": "The clock says: {result}.",
        "close": "For real answers set CHAT_MODEL and OPENAI_API_KEY (or OPENAI_BASE_URL for a server of your own).",
    },
    "ru": {
        "think": "Сообщение: «{quote}». Я — сценарий, поэтому ищу то, на что ответит инструмент.",
        "plan": " Вызову {tools}.",
        "no_plan": " Вызывать нечего, просто отвечу.",
        "open": "Это демонстрационная модель: сценарий, который показывает, как приходит ответ, а не языковая модель.",
        "quote": "Вы написали: «{quote}»",
        "calculate": "Инструмент посчитал: {expression} = {result}.",
        "current_time": "Часы показывают: {result}.",
        "close": "Для настоящих ответов задайте CHAT_MODEL и OPENAI_API_KEY (или OPENAI_BASE_URL для своего сервера).",
    },
}


def demo_model() -> FunctionModel:
    """The model itself."""
    return FunctionModel(stream_function=_answer, model_name="demo")


async def _answer(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | DeltaToolCalls | DeltaThinkingCalls]:
    question = _question(messages)
    words = _WORDS["ru" if _CYRILLIC.search(question) else "en"]
    quote = question if len(question) <= QUOTE_CHARS else question[:QUOTE_CHARS] + "…"
    if isinstance(messages[-1], ModelRequest) and any(isinstance(p, ToolReturnPart) for p in messages[-1].parts):
        async for word in _slowly(_conclusion(words, quote, messages)):
            yield word
        return
    calls = _calls(question, {tool.name for tool in info.function_tools})
    plan = words["plan"].format(tools=", ".join(name for name, _ in calls)) if calls else words["no_plan"]
    async for word in _slowly(words["think"].format(quote=quote) + plan):
        yield {0: DeltaThinkingPart(content=word)}
    if not calls:
        async for word in _slowly(_conclusion(words, quote, messages)):
            yield word
        return
    for index, (name, arguments) in enumerate(calls, start=1):
        yield {index: DeltaToolCall(name=name, json_args=json.dumps(arguments, ensure_ascii=False))}


def _question(messages: list[ModelMessage]) -> str:
    """The last thing that the user said."""
    said = [
        part.content
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, UserPromptPart) and isinstance(part.content, str)
    ]
    return said[-1].strip() if said else ""


def _calls(question: str, tools: set[str]) -> list[tuple[str, dict[str, str]]]:
    """The tools that have something to say about *question*; the clock always has."""
    calls: list[tuple[str, dict[str, str]]] = []
    expression = _expression(question)
    if expression and "calculate" in tools:
        calls.append(("calculate", {"expression": expression}))
    if "current_time" in tools and (not calls or _TIME.search(question)):
        calls.append(("current_time", {"zone": "Europe/Moscow" if _CYRILLIC.search(question) else "UTC"}))
    return calls


def _expression(question: str) -> str | None:
    """The first arithmetic in *question* that has a value."""
    for match in _ARITHMETIC.finditer(question):
        expression = match.group().strip()
        if re.fullmatch(r"[\d.\s]*", expression):
            continue
        try:
            evaluate(expression)
        except CannotCalculate:
            continue
        return expression
    return None


def _conclusion(words: dict[str, str], quote: str, messages: list[ModelMessage]) -> str:
    expressions = {
        call.tool_call_id: call.args_as_dict().get("expression", "")
        for message in messages
        if isinstance(message, ModelResponse)
        for call in message.tool_calls
    }
    last = messages[-1]
    found = [
        words[part.tool_name].format(expression=expressions.get(part.tool_call_id, ""), result=part.content)
        for part in (last.parts if isinstance(last, ModelRequest) else ())
        if isinstance(part, ToolReturnPart) and part.tool_name in words
    ]
    return "\n\n".join([words["open"], words["quote"].format(quote=quote), *found, words["close"]])


async def _slowly(text: str) -> AsyncIterator[str]:
    """*text* word by word."""
    for piece in re.findall(r"\S+\s*|\s+", text):
        await asyncio.sleep(WORD_S)
        yield piece
