"""The `demo` model: a script that reasons, calls real tools and streams, so that everything can be tried offline.

What it says depends on the message and the tools' results alone. It never pretends to be a model.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import (
    AgentInfo,
    DeltaThinkingCalls,
    DeltaThinkingPart,
    DeltaToolCall,
    DeltaToolCalls,
    FunctionModel,
)

from .reading import Reading, read
from .texts import CODE, LIST, RESTART, RESTART_CALL, TABLE, WORDS

#: Pause between two words, so that polling shows the answer growing: a few seconds, ten for the longest.
WORD_S = 0.04
#: How much of the message is quoted.
QUOTE_CHARS = 120


def demo_model() -> FunctionModel:
    """The model itself."""
    return FunctionModel(stream_function=_answer, model_name="demo")


async def _answer(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | DeltaToolCalls | DeltaThinkingCalls]:
    # On a thread: the first one reads the names of all time zones.
    reading = await asyncio.to_thread(read, _question(messages))
    words = WORDS[reading.language]
    if isinstance(messages[-1], ModelRequest) and any(isinstance(p, ToolReturnPart) for p in messages[-1].parts):
        async for word in _slowly(_conclusion(reading, messages)):
            yield word
        return
    calls = reading.calls({tool.name for tool in info.function_tools})
    names = ", ".join(dict.fromkeys(name for name, _ in calls))
    plan = words["plan"].format(tools=names) if calls else words["no_plan"]
    async for word in _slowly(words["think"].format(quote=_quote(reading.question)) + plan):
        yield {0: DeltaThinkingPart(content=word)}
    if not calls:
        async for word in _slowly(_conclusion(reading, messages)):
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


def _quote(question: str) -> str:
    return question if len(question) <= QUOTE_CHARS else question[:QUOTE_CHARS] + "…"


def _results(messages: list[ModelMessage], tool: str) -> dict[str, str]:
    """What *tool* has returned, by its one argument."""
    arguments = {
        call.tool_call_id: call.args_as_dict()
        for message in messages
        if isinstance(message, ModelResponse)
        for call in message.tool_calls
    }
    last = messages[-1]
    return {
        str(next(iter(arguments[part.tool_call_id].values()))): str(part.content)
        for part in (last.parts if isinstance(last, ModelRequest) else ())
        if isinstance(part, ToolReturnPart) and part.tool_name == tool
    }


def _conclusion(reading: Reading, messages: list[ModelMessage]) -> str:
    words = WORDS[reading.language]
    parts = [words["open"], words["quote"].format(quote=_quote(reading.question))]
    parts += _body(reading, _results(messages, "calculate"), _results(messages, "current_time"))
    return "\n\n".join([*parts, words["close"]])


def _body(reading: Reading, sums: dict[str, str], clocks: dict[str, str]) -> Iterator[str]:
    """The answer proper; *sums* by expression, *clocks* by time zone."""
    words, language = WORDS[reading.language], reading.language
    forms = set(reading.forms)
    if reading.about_restarts:
        yield RESTART[language].strip()
        for result in clocks.values():
            yield RESTART_CALL[language].format(result=result)
        clocks = {}
    times = [
        (place if place == zone else f"{place} ({zone})", ":", clocks[zone])
        for place, zone in reading.places.items()
        if zone in clocks
    ]
    results = [(f"`{expression}`", " =", result) for expression, result in sums.items()] + times
    if results and "table" in forms:
        forms.discard("table")
        yield words["results"].format(rows="\n".join(f"| {what} | {result} |" for what, _, result in results))
    elif results:
        bullet = "- " if len(results) > 1 or "list" in forms else ""
        forms.discard("list")
        yield "\n".join(f"{bullet}{what}{sign} **{result}**" for what, sign, result in results)
    for expression, reason in reading.refused.items():
        yield words["no_value"].format(expression=expression, reason=reason)
    if clocks and not times:
        yield " ".join(words["clock"].format(result=result) for result in clocks.values())
        yield words["no_place"] if reading.asks_time else words["hint"]
    samples = {"table": TABLE[language], "list": LIST[language], "code": CODE[reading.code]}
    yield from (sample.strip() for form, sample in samples.items() if form in forms)


async def _slowly(text: str) -> AsyncIterator[str]:
    """*text* word by word."""
    for piece in re.findall(r"\S+\s*|\s+", text):
        await asyncio.sleep(WORD_S)
        yield piece
