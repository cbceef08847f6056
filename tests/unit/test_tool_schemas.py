"""Schemas of tools, as servers give them and as model providers take them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic_ai.profiles.openai import OpenAIJsonSchemaTransformer

from worker.engine.mcp.schemas import MAX_BYTES, MAX_DEPTH, Unusable, usable_schema

EMPTY = {"type": "object", "properties": {}}
TEXT = {"type": "string"}


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def mended(schema: object) -> dict[str, Any]:
    return usable_schema(schema)[0]


@pytest.mark.parametrize(
    "schema",
    [
        EMPTY,
        an_object(a=TEXT) | {"required": ["a"], "additionalProperties": False},
        an_object(a={"type": ["string", "null"], "enum": ["x", None]}, b={"anyOf": [TEXT, {"type": "null"}]}),
        an_object(a={"$ref": "#/$defs/A"}) | {"$defs": {"A": an_object(more={"$ref": "#/$defs/A"})}},
        an_object(a={"type": "array", "items": TEXT, "minItems": 1}) | {"x-order": ["a"]},
        an_object(a={"type": "string", "pattern": "^a+$", "format": "date", "default": "a", "const": "a"}),
    ],
    ids=["empty", "plain", "unions", "recursive", "array", "text"],
)
def test_a_good_schema_stays_as_it_is(schema: dict[str, Any]) -> None:
    assert usable_schema(schema) == (schema, [])


@pytest.mark.parametrize(
    ("given_schema", "expected"),
    [
        (None, EMPTY),
        (True, EMPTY),
        ({}, EMPTY),
        ({"type": "object"}, EMPTY),
        ({"type": "object", "properties": None}, EMPTY),
        ({"type": "object", "properties": "none"}, EMPTY),
        ({"type": "object", "properties": [TEXT]}, EMPTY),
        ({"properties": {"a": TEXT}}, an_object(a=TEXT)),
        ({"type": ["object", "null"], "properties": {"a": TEXT}}, an_object(a=TEXT)),
        ({"type": "Object", "properties": {"a": {"type": "str"}}}, an_object(a=TEXT)),
        (EMPTY | {"required": "x"}, EMPTY),
        (EMPTY | {"required": [1, None, "x", "x"]}, an_object(x={}) | {"required": ["x"]}),
        (EMPTY | {"required": []}, EMPTY),
        (EMPTY | {"additionalProperties": "no"}, EMPTY),
        (EMPTY | {"additionalProperties": [True]}, EMPTY),
        (an_object(a="text", type="object"), an_object(a={}, type={})),
        (an_object(a=True, b=False, c=None), an_object(a={}, c={})),
        (an_object(a={"type": "strng"}), an_object(a={})),
        (an_object(a={"type": []}), an_object(a={})),
        (an_object(a={"type": "array"}), an_object(a={"type": "array", "items": {}})),
        (
            an_object(a={"type": "array", "items": [TEXT, {"type": "null"}]}),
            an_object(a={"type": "array", "items": {"anyOf": [TEXT, {"type": "null"}]}}),
        ),
        (an_object(a={"enum": []}), an_object(a={})),
        (an_object(a={"enum": "a, b"}), an_object(a={})),
        (an_object(a={"anyOf": [], "oneOf": "x"}), an_object(a={})),
        (an_object(a={"anyOf": [TEXT, "number"]}), an_object(a={"anyOf": [TEXT]})),
        (an_object(a={"minimum": "0", "maximum": math.nan, "multipleOf": 0}), an_object(a={})),
        (an_object(a={"minLength": -1, "maxLength": 2.0}), an_object(a={"maxLength": 2})),
        (an_object(a={"default": math.inf, "const": math.nan}), an_object(a={})),
        (an_object(a={"pattern": "("}), an_object(a={})),
        (an_object(a={"pattern": 5, "description": ["no"]}), an_object(a={})),
        (an_object(a={"patternProperties": {"*": TEXT}}), an_object(a={})),
        (an_object(a={"description": "half \ud83d"}), an_object(a={"description": "half \ufffd"})),
        (an_object(a={"$ref": "#/nowhere"}), an_object(a={})),
        (an_object(a={"$ref": "https://example.org/s.json"}), an_object(a={})),
        (an_object(a={"$ref": 7, "type": "string"}), an_object(a=TEXT)),
        (an_object(a=TEXT, b={"$ref": "#/properties/a"}), an_object(a=TEXT, b=TEXT)),
        (an_object(a={"$ref": "#/properties/a"}), an_object(a={})),
        (an_object(a={"type": "object", "properties": {"b": {"$ref": "#/properties/a"}}}), None),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "$id": "x"} | EMPTY, EMPTY),
        ({"$ref": "#/$defs/A", "$defs": {"A": an_object(b=TEXT)}}, None),
        ({"anyOf": [an_object(a=TEXT), an_object(b=TEXT)]}, an_object(a=TEXT, b=TEXT)),
        ({"oneOf": [an_object(a=TEXT) | {"required": ["a"]}, {"type": "null"}]}, None),
        ({"allOf": [an_object(a=TEXT) | {"required": ["a"]}, {"required": ["b"]}]}, None),
        (an_object(a=TEXT) | {"not": {"required": ["a"]}, "if": {}, "then": an_object(b=TEXT)}, None),
        (an_object(a=TEXT) | {"enum": [{"a": "x"}], "const": {"a": "x"}}, an_object(a=TEXT)),
    ],
)
def test_what_is_wrong_in_a_schema_is_left_out(given_schema: Any, expected: dict[str, Any] | None) -> None:
    schema = mended(given_schema)

    assert expected in (None, schema)
    assert_providers_take(schema)


def test_what_was_changed_is_told() -> None:
    assert usable_schema(an_object(a={"type": "strng"}, b={"enum": []}) | {"required": "a"})[1] == [
        "properties.a.type",
        "properties.b.enum",
        "required",
    ]


@pytest.mark.parametrize(
    ("given_schema", "reason"),
    [
        (False, "no object"),
        ("object", "no object"),
        (7, "no object"),
        ([EMPTY], "no object"),
        ({"type": "string", "description": "the title"}, "describes string"),
        ({"type": ["array", "null"]}, "not an object"),
        ({"anyOf": [TEXT, {"type": "number"}]}, "describes no object"),
        (an_object(**{f"p{n}": {"description": "d" * 1000} for n in range(MAX_BYTES // 1000)}), "larger than"),
        (an_object(**{f"p{n}": {} for n in range(6_000)}), "too large"),
    ],
)
def test_a_schema_that_can_not_be_of_arguments_is_refused_with_a_reason(given_schema: Any, reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        usable_schema(given_schema)


@pytest.mark.parametrize("depth", [MAX_DEPTH, 300, 5_000])
def test_a_schema_that_is_nested_too_deeply_is_refused(depth: int) -> None:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = an_object(a=schema)

    with pytest.raises(Unusable, match="nested"):
        usable_schema(schema)


def test_references_that_double_at_each_step_are_refused_in_time() -> None:
    properties: dict[str, Any] = {"p0": TEXT}
    for n in range(40):
        both = {"a": {"$ref": f"#/properties/p{n}"}, "b": {"$ref": f"#/properties/p{n}"}}
        properties[f"p{n + 1}"] = an_object(**both)

    with pytest.raises(Unusable, match="too large"):
        usable_schema(an_object(**properties))


def assert_providers_take(schema: dict[str, Any]) -> None:
    assert schema["type"] == "object"
    assert isinstance(schema["properties"], dict)
    assert set(schema.get("required", ())) <= schema["properties"].keys()
    assert not schema.keys() & {"anyOf", "oneOf", "allOf", "not", "enum", "const", "$ref"}
    Draft202012Validator.check_schema(schema)
    json.dumps(schema, allow_nan=False, ensure_ascii=False).encode()
    OpenAIJsonSchemaTransformer(schema, strict=None).walk()


_WORDS = """type properties required items anyOf allOf oneOf $ref $defs enum not then if additionalProperties pattern
minimum const default description a b object array string # #/$defs/a #/properties/a #/properties/b"""
WORDS = st.sampled_from([*_WORDS.split(), "\ud83d", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=25,
)


@given(
    JSON
    | st.dictionaries(WORDS, JSON, max_size=5)
    | st.dictionaries(WORDS, JSON, max_size=4).map(lambda p: an_object(**p))
)
@settings(max_examples=100, deadline=None)
def test_any_json_is_a_schema_that_providers_take_or_is_refused(value: Any) -> None:
    try:
        schema = mended(value)
    except Unusable:
        return
    assert_providers_take(schema)
    assert usable_schema(schema) == (schema, [])
