"""Schemas of tools as servers give them, made such that model providers take them.

One schema that a provider refuses makes it refuse the whole request, and so every turn of the agent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from worker.engine.whole_text import whole

from .schema_values import Wrong, checked

#: A schema that is nested deeper, or larger, is of no use to a model; encoders give up on deep ones.
MAX_DEPTH = 50
MAX_NODES = 5_000
MAX_BYTES = 256 * 1024

#: They move what a `$ref` means, or say nothing to a model: left out without a word.
_SILENT = frozenset(
    {"$schema", "$id", "$anchor", "$comment", "$vocabulary"}
    | {"$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"}
)
_DEFINITION = re.compile(r"#/(\$defs|definitions)/[^/]+")


class Unusable(Exception):
    """A schema can't be mended; the message says why."""


def usable_schema(given: object) -> tuple[dict[str, Any], list[str]]:
    """A schema of an object that providers take, and which places of *given* were changed for it.

    Raises:
        Unusable: it can't describe the arguments of a tool.
    """
    if given is None or given is True:
        return {"type": "object", "properties": {}}, ["missing"]
    if not isinstance(given, dict):
        raise Unusable("its schema is no object")
    mending = _Mending(given)
    try:
        schema = mending.top()
        size = len(json.dumps(schema))
    except RecursionError:
        raise Unusable("its schema is nested too deeply") from None
    if size > MAX_BYTES:
        raise Unusable(f"its schema is larger than {MAX_BYTES} bytes")
    return schema, mending.changed


class _Mending:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._nodes = 0
        self._path: list[str] = []
        #: References that are being replaced by what they point at.
        self._inlined: list[str] = []
        self.changed: list[str] = []

    def top(self) -> dict[str, Any]:
        schema = self._as_schema(self._root)
        if not isinstance(schema, dict):
            raise Unusable("its schema is no object")
        flat = self._flat(schema, 0)
        kinds = flat.get("type", "object")
        if "object" not in ([kinds] if isinstance(kinds, str) else kinds):
            raise Unusable(f"its schema describes {kinds}, not an object")
        flat["type"] = "object"
        flat.setdefault("properties", {})
        return _with_required_properties(flat)

    def _note(self) -> None:
        place = ".".join(self._path) or "all of it"
        if place not in self.changed:
            self.changed.append(place)

    def _as_schema(self, node: object) -> dict[str, Any] | bool:
        """*node* with what is wrong in it left out.

        Raises:
            Wrong: it is no schema.
        """
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise Wrong
        self._nodes += 1
        if len(self._path) > MAX_DEPTH:
            raise Unusable(f"its schema is nested deeper than {MAX_DEPTH} levels")
        if self._nodes > MAX_NODES:
            raise Unusable("its schema is too large")
        schema: dict[str, Any] = {}
        for key, value in node.items():
            if key in _SILENT:
                continue
            self._path.append(key)
            try:
                keyword = _KEYWORDS.get(key)
                schema[str(whole(key))] = keyword(self, value) if keyword else checked(key, value)
            except Wrong:
                self._note()
            self._path.pop()
        return self._finished(schema)

    def _finished(self, schema: dict[str, Any]) -> dict[str, Any]:
        target = schema.get("$ref")
        if isinstance(target, dict):
            # It pointed elsewhere than at a definition: zod's do, and few providers follow those.
            del schema["$ref"]
            schema = target | schema
        if schema.get("type") == "array" and not isinstance(schema.get("items"), dict):
            # Required by OpenAI.
            schema["items"] = {}
        return _with_required_properties(schema)

    def _flat(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """*schema* without alternatives and conditions, which providers refuse at the top: any of them may be meant."""
        schema = self._resolved(schema)
        flat = {key: value for key, value in schema.items() if key not in _COMBINING}
        if depth > MAX_DEPTH or flat.keys() == schema.keys():
            return flat
        if depth == 0:
            self._note()
        for key in ("allOf", "anyOf", "oneOf", "then", "else"):
            branches = schema.get(key, [])
            branches = [branches] if isinstance(branches, (dict, bool)) else branches
            of_objects = [
                branch
                for each in branches
                if isinstance(each, dict) and _of_objects(branch := self._flat(each, depth + 1))
            ]
            if branches and not of_objects and not flat.get("properties") and "type" not in flat:
                raise Unusable("its schema describes no object")
            _join(flat, of_objects, every=key == "allOf", some=key in ("anyOf", "oneOf"))
        return flat

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """*schema* with what its `$ref` points at, which is a definition."""
        seen: set[str] = set()
        while isinstance(reference := schema.get("$ref"), str) and reference not in seen:
            seen.add(reference)
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            target = self._target(reference)
            mended = self._as_schema(target) if isinstance(target, dict) and target is not self._root else {}
            schema = (mended if isinstance(mended, dict) else {}) | rest
        return {key: value for key, value in schema.items() if key != "$ref"}

    def _target(self, reference: str) -> object:
        """What a local JSON pointer points at, or None."""
        node: object = self._root
        for token in reference.split("/")[1:]:
            token = unquote(token).replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict):
                node = node.get(token)
            elif isinstance(node, list) and token.isdecimal() and int(token) < len(node):
                node = node[int(token)]
            else:
                return None
        return node

    def _is_alias_of_itself(self, reference: str) -> bool:
        seen: set[str] = set()
        while isinstance(target := self._target(reference), dict) and isinstance(target.get("$ref"), str):
            seen.add(reference)
            reference = target["$ref"]
            if reference in seen:
                return True
        return False

    def reference(self, value: object) -> str | dict[str, Any]:
        if not isinstance(value, str) or (value != "#" and not value.startswith("#/")):
            raise Wrong
        if not isinstance(self._target(value), dict) or self._is_alias_of_itself(value):
            raise Wrong
        if value == "#" or _DEFINITION.fullmatch(value):
            return value
        if value in self._inlined:
            raise Wrong
        self._inlined.append(value)
        try:
            inlined = self._as_schema(self._target(value))
        finally:
            self._inlined.pop()
        return inlined if isinstance(inlined, dict) else {}

    def schema(self, value: object) -> dict[str, Any] | bool:
        return self._as_schema(value)

    def items(self, value: object) -> dict[str, Any]:
        if isinstance(value, list):
            # A tuple, as it was written before 2020.
            kinds = self.schemas(value)
            return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        items = self._as_schema(value)
        return items if isinstance(items, dict) else {}

    def schemas(self, value: object) -> list[dict[str, Any]]:
        if not isinstance(value, list):
            raise Wrong
        found: list[dict[str, Any]] = []
        for each in value:
            try:
                schema = self._as_schema(each)
            except Wrong:
                self._note()
                continue
            found.append(schema if isinstance(schema, dict) else {} if schema else {"not": {}})
        if not found:
            raise Wrong
        return found

    def named(self, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Wrong
        found: dict[str, Any] = {}
        for name, each in value.items():
            self._path.append(name)
            try:
                schema = self._as_schema(each)
            except Wrong:
                self._note()
                schema = {}
            if schema is not False:
                found[str(whole(name))] = {} if schema is True else schema
            self._path.pop()
        return found

    def by_pattern(self, value: object) -> dict[str, Any]:
        found = self.named(value)
        for name in found:
            checked("pattern", name)
        return found


def _with_required_properties(schema: dict[str, Any]) -> dict[str, Any]:
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, dict) and required:
        # Some providers refuse a required property that is not described.
        schema["properties"] = properties | {name: {} for name in required if name not in properties}
    if not required:
        schema.pop("required", None)
    return schema


def _of_objects(schema: dict[str, Any]) -> bool:
    kinds = schema.get("type", "object")
    return "object" in ([kinds] if isinstance(kinds, str) else kinds)


def _join(flat: dict[str, Any], branches: list[dict[str, Any]], every: bool, some: bool) -> None:
    """Add to *flat* what its *branches* describe; what *every* or each of *some* requires is required."""
    if not branches:
        return
    properties = flat["properties"] = dict(flat.get("properties", {}))
    for branch in branches:
        for name, schema in branch.get("properties", {}).items():
            known = properties.setdefault(name, schema)
            if known != schema:
                kinds = known["anyOf"] if known.keys() == {"anyOf"} else [known]
                properties[name] = known if schema in kinds else {"anyOf": [*kinds, schema]}
    required = [set(branch.get("required", ())) for branch in branches]
    names = set.union(*required) if every else set.intersection(*required) if some else set()
    flat["required"] = [*flat.get("required", ()), *sorted(names - set(flat.get("required", ())))]


_KEYWORDS: dict[str, Callable[[_Mending, object], object]] = {
    "items": _Mending.items,
    "$ref": _Mending.reference,
    "patternProperties": _Mending.by_pattern,
    **dict.fromkeys(("properties", "$defs", "definitions", "dependentSchemas"), _Mending.named),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _Mending.schemas),
    **dict.fromkeys(("additionalProperties", "not", "if", "then", "else", "contains"), _Mending.schema),
    **dict.fromkeys(
        ("propertyNames", "unevaluatedItems", "unevaluatedProperties", "additionalItems", "contentSchema"),
        _Mending.schema,
    ),
}
#: What providers refuse at the top of a schema.
_COMBINING = frozenset({"allOf", "anyOf", "oneOf", "not", "enum", "const", "if", "then", "else", "dependentSchemas"})
