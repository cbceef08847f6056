"""The file of agents."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic_ai.models import KnownModelName
from pydantic_ai.providers import infer_provider_class

from app.agents import DEFAULT_AGENT, DEFAULT_TOOLS, Agent, Agents
from app.errors import Invalid, UnknownAgent
from app.settings import Settings

#: What may stand behind a provider.
MODELS = ("x", "http://127.0.0.1:9/x", "", "*")

FULL = """
[[agents]]
id = 7
name = "Researcher"
model = "openai:gpt-5-mini"
instructions = "Be brief."
tools = ["calculate", "my_package.tools:weather"]
context_tokens = 32000

[[agents.mcp_servers]]
name = "files"
command = "mcp-server-files"
args = ["/srv/files"]
env = { TOKEN = "secret" }

[[agents.mcp_servers]]
name = "web"
url = "http://127.0.0.1:9000/mcp"
headers = { Authorization = "Bearer secret" }
repeatable = true
required = true
"""


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write(text: str) -> str:
        path = tmp_path / "agents.toml"
        path.write_text(text, "utf-8")
        return str(path)

    return write


def test_without_a_file_there_is_agent_1() -> None:
    agents = Agents.load("")

    assert list(agents) == [DEFAULT_AGENT]
    assert agents.get(1).tools == DEFAULT_TOOLS


def test_a_file_adds_agents_beside_agent_1(write) -> None:  # type: ignore[no-untyped-def]
    agents = Agents.load(write(FULL))

    assert [agent.id for agent in agents] == [1, 7]
    researcher = agents.get(7)
    assert (researcher.model, researcher.context_tokens) == ("openai:gpt-5-mini", 32_000)
    assert researcher.tools == ("calculate", "my_package.tools:weather")
    files, web = researcher.mcp_servers
    assert (files.command, files.args) == ("mcp-server-files", ("/srv/files",))
    assert (files.repeatable, files.required) == (False, False)
    assert (web.url, web.repeatable, web.required) == ("http://127.0.0.1:9000/mcp", True, True)


def test_a_file_may_replace_agent_1(write) -> None:  # type: ignore[no-untyped-def]
    assert Agents.load(write('[[agents]]\nid = 1\nname = "Mine"\n')).get(1).name == "Mine"


def test_an_agent_never_shows_the_secrets_of_its_servers(write) -> None:  # type: ignore[no-untyped-def]
    assert "secret" not in repr(Agents.load(write(FULL)).get(7))


def test_an_unknown_agent_is_an_error() -> None:
    with pytest.raises(UnknownAgent, match="agent 9"):
        Agents().get(9)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("agents = 1", "agents"),
        ("[[agents]", "TOML|Expected|line"),
        ('[[agents]]\nid = 1\nname = "a"\ntoolz = []', "toolz"),
        ('[[agents]]\nid = 0\nname = "a"', "id"),
        ('[[agents]]\nid = 1\nname = "a"\n[[agents]]\nid = 1\nname = "b"', "share an id"),
        ('[[agents]]\nid = 1\nname = "a"\n[[agents.mcp_servers]]\nname = "x"', "either"),
        ('[[agents]]\nid = 1\nname = "a"\n[[agents.mcp_servers]]\nname = "x"\nurl = "u"\ncommand = "c"', "either"),
        ('[[agents]]\nid = 1\nname = "a"' + '\n[[agents.mcp_servers]]\nname = "x"\nurl = "u"' * 2, "share a name"),
        ('[[agents]]\nid = 1\nname = "a"\ntools = ["calculate", "calculate"]', "twice"),
        ('[[agents]]\nid = 1\nname = "a"\n[[agents.mcp_servers]]\nname = "x"\nurl = "u"\nargs = ["v"]', "belong"),
        (
            '[[agents]]\nid = 1\nname = "a"\n[[agents.mcp_servers]]\nname = "x"\ncommand = "c"\nheaders = {a = "b"}',
            "belong",
        ),
    ],
)
def test_a_wrong_file_says_what_is_wrong(write, text: str, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Invalid, match=says):
        Agents.load(write(text))


def test_what_is_wrong_in_a_file_is_told_on_one_line_with_its_place(write) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Invalid) as caught:
        Agents.load(write('[[agents]]\nid = 1\ntoolz = []\n[[agents.mcp_servers]]\nname = "x"'))

    _, _, told = caught.value.detail.partition(".toml: ")
    assert told == (
        "agents.0.name: Field required; agents.0.mcp_servers.0: name either `command` or `url`; "
        "agents.0.toolz: Extra inputs are not permitted"
    )


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"nowhere\.toml"):
        Agents.load(str(tmp_path / "nowhere.toml"))


def test_models_are_offered_that_the_settings_and_agents_name_and_no_others() -> None:
    agents = Agents((Agent(id=2, name="Two", model="openai:gpt-a"),))
    settings = Settings(chat_model="demo", models="openai-chat:llama, openai-chat:*,:*,*, test ,")

    providers = re.findall(r"'([a-z0-9-]+)'", inspect.getsource(infer_provider_class))
    named = {f"{prefix}{provider}:{model}" for prefix in ("", "gateway/") for provider in providers for model in MODELS}
    assert {"huggingface:x", "openai-codex:x", "gateway/openai:http://127.0.0.1:9/x"} <= named

    known = [
        *get_args(KnownModelName.__value__),
        *named,
        "huggingface:http://127.0.0.1:9/x",
        "openai-codex:gpt-5",
        "*",
        ":",
        "",
    ]

    assert {name for name in known if agents.offers(name, settings)} <= {"test"} | {
        name for name in known if name.startswith("openai-chat:")
    }
    for name in ("demo", "openai:gpt-a", "openai-chat:llama", "openai-chat:any:thing", "test"):
        assert agents.offers(name, settings)
    for name in ("Demo", "demo ", "openai:gpt-b", "openai-chat", ":x", "*", "", "x"):
        assert not agents.offers(name, settings)
