"""A file's structure against its schema in `config/`, in words that name the cure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from shopfloor.plant.paths import config_folder
from shopfloor.plant.problems import Problem, did_you_mean, listed
from shopfloor.plant.yaml_lines import KeyPath, Lines

_TYPE_WORDS = {
    "object": "a mapping (KEY: VALUE)",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


PLANT_SCHEMA = "plant.schema.json"


@cache
def _schema(name: str = PLANT_SCHEMA) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((config_folder() / name).read_text("utf-8"))
    return content


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(_schema(name))


def structure_problems(content: Any, lines: Lines, schema: str = PLANT_SCHEMA) -> list[Problem]:
    """Everything in which `content` departs from the schema, a file of `config/`."""
    return [
        problem
        for error in _validator(schema).iter_errors(content)
        for problem in _problems(error, tuple(error.absolute_path), lines)
    ]


def defaults(definition: str) -> dict[str, Any]:
    """The default values of a definition of the schema, such as `restart`."""
    properties: dict[str, Any] = _schema()["$defs"][definition]["properties"]
    return {key: spec["default"] for key, spec in properties.items() if "default" in spec}


def _problems(error: ValidationError, path: KeyPath, lines: Lines) -> Iterator[Problem]:
    rule: str = error.validator  # type: ignore[assignment]
    found: Any = error.instance
    schema: dict[str, Any] = error.schema  # type: ignore[assignment]
    if rule == "additionalProperties":
        known = sorted(schema["properties"])
        for key in sorted(set(found) - set(known)):
            message = f"unknown key; {did_you_mean(key, known)}allowed: {listed(known)}"
            yield lines.problem((*path, key), message)
    elif rule == "required":
        for key in schema["required"]:
            if key not in found:
                yield lines.problem(path, f"the key '{key}' is missing")
    elif "propertyNames" in error.absolute_schema_path:
        what = schema.get("description") or f"names like {schema.get('pattern')}"
        yield lines.problem((*path, str(found)), f"{found!r} is no name for this; allowed: {what}")
    else:
        yield lines.problem(path, _message(rule, error.validator_value, found, schema))


def _message(rule: str, value: Any, found: Any, schema: dict[str, Any]) -> str:
    shown = _shown(found)
    if rule == "type":
        kinds = [value] if isinstance(value, str) else list(value)
        return f"{shown} is not allowed; allowed: {' or '.join(_TYPE_WORDS[k] for k in kinds)}"
    if rule == "enum":
        hint = did_you_mean(str(found), map(str, value))
        return f"{shown} is not allowed; {hint}allowed: {listed(map(str, value))}"
    if rule in ("minimum", "maximum"):
        low, high = schema.get("minimum"), schema.get("maximum")
        return f"{shown} is out of range; allowed: {low} to {high}"
    if rule in ("minProperties", "minItems", "minLength"):
        return "is empty; allowed: at least one entry"
    if rule in ("maxLength", "maxItems"):
        return f"is too long; allowed: up to {value}"
    if rule == "uniqueItems":
        return f"{shown} names something twice; allowed: each once"
    return f"{shown} does not fit; allowed: {schema.get('description', f'{rule} {value}')}"


def _shown(found: Any) -> str:
    if found is None:
        return "nothing (an empty value)"
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, dict):
        return "a mapping"
    text = json.dumps(found)
    return text if len(text) <= 60 else text[:57] + "..."
