"""Names of tools, as servers give them and as models see them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.tool_names import VALID, function_name, offered_name


@pytest.mark.parametrize("tool", ["search", "read_file", "a-b", "x" * 60, "Größe"[:2]])
def test_a_tool_is_called_by_the_name_of_its_server_and_its_own(tool: str) -> None:
    assert offered_name(["me"], 0, tool) == f"me_{tool}"[:64] or not tool.isascii()


@pytest.mark.parametrize(
    ("tool", "readable"),
    [
        ("admin.tools/list", "odd_admin_tools_list_"),
        ("with space", "odd_with_space_"),
        ("größe", "odd_gro_e_"),
        ("搜索", "odd____"),
        ("a" * 200, f"odd_{'a' * 51}_"),
        ("line\nbreak", "odd_line_break_"),
    ],
)
def test_a_name_that_providers_refuse_stays_readable_and_gets_a_mark(tool: str, readable: str) -> None:
    name = offered_name(["odd"], 0, tool)

    assert name.startswith(readable)
    assert len(name) == min(64, len(readable) + 8)
    assert VALID.fullmatch(name)


def test_names_that_become_the_same_are_told_apart() -> None:
    names = {offered_name(["odd"], 0, tool) for tool in ("a.b", "a/b", "a b", "a_b", "ä" * 90, "ä" * 91)}

    assert len(names) == 6


def test_a_name_that_a_function_has_gets_a_mark() -> None:
    assert offered_name(["my"], 0, "tool", {"my_tool"}) != "my_tool"
    assert offered_name(["my"], 0, "tool", {"tool"}) == "my_tool"


@pytest.mark.parametrize(
    ("servers", "index", "tool", "plain"),
    [
        (["a", "a_b"], 0, "b_c", False),
        (["a", "a_b"], 1, "c", True),
        (["a_b", "a"], 1, "b_c", False),
        (["git hub", "git_hub"], 0, "c", True),
        (["git hub", "git_hub"], 1, "c", False),
        (["github", "github_work"], 0, "search", True),
        (["github", "github_work"], 1, "search", True),
    ],
)
def test_a_name_that_could_be_of_two_servers_is_of_one_whichever_of_them_are_there(
    servers: list[str], index: int, tool: str, plain: bool
) -> None:
    name = offered_name(servers, index, tool)

    assert (name == f"{servers[index].replace(' ', '_')}_{tool}") == plain


@pytest.mark.parametrize(("function", "name"), [("größe", "gro_e_"), ("<lambda>", "_lambda__"), ("f" * 70, "f" * 55)])
def test_a_function_whose_name_providers_refuse_is_renamed(function: str, name: str) -> None:
    assert function_name(function).startswith(name)
    assert VALID.fullmatch(function_name(function))
    assert function_name("calculate") == "calculate"


TEXTS = st.text(st.characters(codec=None), max_size=80) | st.sampled_from(["a", "b", "a_b", "b_c", "c", "a.b", "a/b"])


@given(st.lists(TEXTS.filter(bool), min_size=1, max_size=4, unique=True), st.lists(TEXTS, unique=True, max_size=8))
def test_names_are_valid_and_each_means_one_tool(servers: list[str], tools: list[str]) -> None:
    names = [offered_name(servers, index, tool) for index in range(len(servers)) for tool in tools]

    assert all(map(VALID.fullmatch, names))
    assert len(set(names)) == len(names)
