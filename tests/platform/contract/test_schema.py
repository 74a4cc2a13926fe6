"""The JSON Schema for editors says the same of a contract as the platform's own reading does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from model_service.contract.feature_reading import ACTIONS, COMMON_KEYS, KEYS_OF_TYPE
from model_service.contract.located_yaml import LocatedYaml
from model_service.contract.output_reading import COMMON_KEYS as OUTPUT_KEYS
from model_service.contract.output_reading import KEYS_OF_TYPE as OUTPUT_KEYS_OF_TYPE
from model_service.contract.reading import KEYS, RESERVED_NAMES, ContractError, parse_contract

CONTRACT_PACKAGE = Path(parse_contract.__code__.co_filename).parent
SCHEMA = json.loads((CONTRACT_PACKAGE / "contract.schema.json").read_text(encoding="utf-8"))
SCAFFOLD = CONTRACT_PACKAGE.parent / "scaffold" / "contract.yaml"
WHOLE: dict[str, Any] = {
    "name": "any_model",
    "contract_version": "1.0",
    "description": "Everything that a contract can say.",
    "unknown_fields": "ignore",
    "features": {
        "rooms": {
            "type": "integer",
            "minimum": 0,
            "maximum": 9,
            "on_out_of_range": "clip",
            "on_missing": {"impute": 3},
        },
        "size in m²": {
            "type": "number",
            "unit": "m²",
            "description": "Living space.",
            "source": {"system": "land register", "owner": "data-team"},
            "minimum": 1.5,
            "on_out_of_range": "pass",
            "example": 70,
        },
        "new/used": {"type": "boolean", "sensitive": True, "on_missing": {"impute": False}},
        "city": {
            "type": "category",
            "categories": ["Bonn", "no"],
            "on_unknown": {"map_to": "Bonn"},
            "on_missing": "pass",
            "example": "no",
        },
        "remarks": {"type": "string", "max_length": 200, "on_missing": {"impute": "none"}},
        "seen": {
            "type": "datetime",
            "minimum": "2020-01-01T00:00:00Z",
            "on_out_of_range": "reject",
            "example": "2026-01-31T12:00:00+01:00",
        },
        "picture": {
            "type": "vector",
            "length": 2,
            "minimum": -1,
            "maximum": 1,
            "on_missing": {"impute": [0, 0.5]},
        },
    },
    "output": {
        "name": "sold",
        "type": "class",
        "classes": ["no", "yes"],
        "meaning": "Whether it is sold within a month.",
        "calibrated": True,
        "thresholds": {"yes": 0.3},
        "decided_by": "sales",
    },
    "examples": [
        {
            "rooms": 2,
            "size in m²": 61.5,
            "new/used": True,
            "city": "Bonn",
            "seen": "2026-01-31T12:00:00Z",
            "picture": [0, 1],
        }
    ],
}
PLAIN: dict[str, Any] = {
    "name": "any_model",
    "contract_version": "12.3",
    "description": "The least that a contract can say.",
    "features": {"age": {"type": "integer"}},
    "output": {"name": "price", "type": "number", "meaning": "In a year."},
}
NUMBER_OUTPUT = {"type": "number", "name": "y", "meaning": "y", "unit": "EUR", "minimum": 0}
VECTOR_OUTPUT = {"type": "vector", "name": "y", "meaning": "y", "length": 3, "maximum": 1.5}

# A path into WHOLE and what is put there; REMOVE takes the key away.
REMOVE = object()
BAD: dict[str, tuple[tuple[Any, ...], Any]] = {
    "no name": (("name",), REMOVE),
    "name with capitals": (("name",), "Any_model"),
    "reserved name": (("name",), "stats"),
    "version as a number": (("contract_version",), 1.0),
    "version of three parts": (("contract_version",), "1.0.0"),
    "no description": (("description",), REMOVE),
    "blank description": (("description",), "  "),
    "unknown rule": (("unknown_fields",), "drop"),
    "unknown key": (("featrues",), {}),
    "no features": (("features",), {}),
    "features as a list": (("features",), [{"name": "rooms"}]),
    "empty feature name": (("features", ""), {"type": "number"}),
    "long feature name": (("features", "x" * 101), {"type": "number"}),
    "control character": (("features", "a\tb"), {"type": "number"}),
    "feature without type": (("features", "rooms", "type"), REMOVE),
    "unknown type": (("features", "rooms", "type"), "float"),
    "unknown key of a feature": (("features", "rooms", "minimun"), 1),
    "key of another type": (("features", "rooms", "categories"), ["a"]),
    "minimum as text": (("features", "rooms", "minimum"), "0"),
    "minimum as boolean": (("features", "rooms", "minimum"), True),
    "range policy without range": (("features", "remarks", "on_out_of_range"), "clip"),
    "clip without bounds": (("features", "free"), {"type": "number", "on_out_of_range": "clip"}),
    "impute for a range": (("features", "rooms", "on_out_of_range"), {"impute": 1}),
    "unknown policy": (("features", "rooms", "on_missing"), "ignore"),
    "impute without value": (("features", "rooms", "on_missing"), "impute"),
    "impute of another type": (("features", "rooms", "on_missing"), {"impute": "3"}),
    "impute null": (("features", "rooms", "on_missing"), {"impute": None}),
    "impute half a room": (("features", "rooms", "on_missing"), {"impute": 2.5}),
    "map_to for missing": (("features", "city", "on_missing"), {"map_to": "Bonn"}),
    "two policies": (("features", "city", "on_unknown"), {"map_to": "Bonn", "impute": "Bonn"}),
    "map_to a number": (("features", "city", "on_unknown"), {"map_to": 3}),
    "on_unknown of a number": (("features", "rooms", "on_unknown"), "pass"),
    "categories of numbers": (("features", "city", "categories"), [1, 2]),
    "category no as boolean": (("features", "city", "categories"), ["Bonn", False]),
    "empty category": (("features", "city", "categories"), ["Bonn", "no", ""]),
    "category twice": (("features", "city", "categories"), ["Bonn", "no", "Bonn"]),
    "no categories": (("features", "city", "categories"), []),
    "categories left out": (("features", "city", "categories"), REMOVE),
    "vector without length": (("features", "picture", "length"), REMOVE),
    "vector of length 0": (("features", "picture", "length"), 0),
    "no characters at all": (("features", "remarks", "max_length"), 0),
    "source without owner": (("features", "rooms", "source"), {"system": "x"}),
    "sensitive as text": (("features", "rooms", "sensitive"), "yes"),
    "unit as a number": (("features", "rooms", "unit"), 5),
    "example of another type": (("features", "rooms", "example"), "two"),
    "example as boolean": (("features", "size in m²", "example"), True),
    "no output": (("output",), REMOVE),
    "output without meaning": (("output", "meaning"), REMOVE),
    "output without name": (("output", "name"), ""),
    "unknown output type": (("output", "type"), "score"),
    "key of another output": (("output", "length"), 3),
    "one class": (("output", "classes"), ["no"]),
    "class twice": (("output", "classes"), ["no", "yes", "no"]),
    "classes as booleans": (("output", "classes"), [False, True]),
    "threshold above 1": (("output", "thresholds"), {"yes": 1.5}),
    "threshold as text": (("output", "thresholds"), {"yes": "0.5"}),
    "nobody decides": (("output", "decided_by"), REMOVE),
    "calibrated as text": (("output", "calibrated"), "no"),
    "examples as a mapping": (("examples",), {"rooms": 1}),
    "example that is no row": (("examples",), [3]),
}
# What only the reading can know: it compares one part with another, or reads dates.
BEYOND_A_SCHEMA: dict[str, tuple[tuple[Any, ...], Any]] = {
    "name of another folder": (("name",), "another_model"),
    "range upside down": (("features", "rooms", "minimum"), 10),
    "impute out of range": (("features", "rooms", "on_missing"), {"impute": 10}),
    "map_to no category": (("features", "city", "on_unknown"), {"map_to": "Köln"}),
    "impute no category": (("features", "city", "on_missing"), {"impute": "Köln"}),
    "impute of another length": (("features", "picture", "on_missing"), {"impute": [1]}),
    "example out of range": (("features", "rooms", "example"), 10),
    "date without offset": (("features", "seen", "minimum"), "2020-01-01T00:00:00"),
    "threshold of no class": (("output", "thresholds"), {"maybe": 0.5}),
    "output is a feature": (("output", "name"), "rooms"),
    "example that is refused": (("examples",), [{"rooms": 2}]),
}


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(WHOLE))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is REMOVE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


def by_schema(document: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(document)]


def by_reading(document: Any) -> list[str]:
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    try:
        parse_contract(text, Path("any_model/contract.yaml"))
    except ContractError as error:
        return [str(fault) for fault in error.faults]
    return []


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "document",
    [
        WHOLE,
        PLAIN,
        {**PLAIN, "output": NUMBER_OUTPUT},
        {**PLAIN, "output": VECTOR_OUTPUT},
        {**PLAIN, "examples": [{"age": 3}]},
        {**PLAIN, "features": {"x" * 100: {"type": "string"}}},
    ],
)
def test_a_good_contract_passes_both(document: dict[str, Any]) -> None:
    assert by_schema(document) == []
    assert by_reading(document) == []


@pytest.mark.parametrize(("path", "value"), BAD.values(), ids=BAD.keys())
def test_a_bad_contract_fails_both(path: tuple[Any, ...], value: Any) -> None:
    document = changed(path, value)
    assert by_reading(document)
    assert by_schema(document)


@pytest.mark.parametrize(("path", "value"), BEYOND_A_SCHEMA.values(), ids=BEYOND_A_SCHEMA.keys())
def test_the_reading_finds_what_a_schema_cannot(path: tuple[Any, ...], value: Any) -> None:
    document = changed(path, value)
    assert by_reading(document)
    assert by_schema(document) == []


def test_the_starter_contract_passes_both() -> None:
    text = SCAFFOLD.read_text(encoding="utf-8")
    assert by_schema(LocatedYaml(text, SCAFFOLD).value) == []
    assert parse_contract(text, SCAFFOLD, model="your_model")


def test_the_schema_has_the_keys_that_the_reading_knows() -> None:
    parts = SCHEMA["$defs"]
    assert set(SCHEMA["properties"]) == set(KEYS)
    assert set(SCHEMA["properties"]["name"]["not"]["enum"]) == RESERVED_NAMES
    for kind, keys in KEYS_OF_TYPE.items():
        assert set(parts[f"feature_{kind}"]["properties"]) == {*COMMON_KEYS, *keys}
    for output, keys in OUTPUT_KEYS_OF_TYPE.items():
        assert set(parts[f"output_{output}"]["properties"]) == {*OUTPUT_KEYS, *keys}


def test_the_schema_has_the_policies_that_the_reading_knows() -> None:
    for kind, keys in KEYS_OF_TYPE.items():
        properties = SCHEMA["$defs"][f"feature_{kind}"]["properties"]
        for key in ACTIONS.keys() & {"on_missing", *keys}:
            known = []
            for option in properties[key]["anyOf"]:
                known += option.get("enum", option.get("required"))
            assert set(known) == set(ACTIONS[key]), (kind, key)


def test_every_key_of_the_schema_is_described() -> None:
    closed = [SCHEMA, *(part for part in SCHEMA["$defs"].values() if "properties" in part)]
    described = 0
    for part in closed:
        if part.get("additionalProperties") is not False:
            continue
        for key, schema in part["properties"].items():
            shared = SCHEMA["$defs"].get(schema.get("$ref", "").rpartition("/")[2], {})
            assert schema.get("description") or shared.get("description"), key
            described += 1
    assert described > 60
