"""One feature of `contract.yaml`."""

from __future__ import annotations

import datetime as dt
import sys
from typing import Any, get_args

import msgspec

from model_service.contract.contract import FEATURE_TYPES, Feature, FeatureType, Policy, Source
from model_service.contract.located_yaml import LocatedYaml, Where, check_keys
from model_service.contract.value_check import LARGEST_INTEGER, RefusedValueError, check_value

COMMON_KEYS = ("type", "description", "unit", "source", "sensitive", "example", "on_missing")
RANGE_KEYS = ("minimum", "maximum", "on_out_of_range")
KEYS_OF_TYPE: dict[FeatureType, tuple[str, ...]] = {
    "integer": RANGE_KEYS,
    "number": RANGE_KEYS,
    "boolean": (),
    "category": ("categories", "on_unknown"),
    "string": ("max_length",),
    "datetime": RANGE_KEYS,
    "vector": ("length", *RANGE_KEYS),
}
ACTIONS: dict[str, tuple[str, ...]] = {
    "on_missing": ("reject", "pass", "impute"),
    "on_unknown": ("reject", "pass", "map_to"),
    "on_out_of_range": ("reject", "clip", "pass"),
}
LONGEST_NAME = 100


def read_feature(document: LocatedYaml, where: Where, name: str, stated: Any) -> Feature | None:
    """Return a feature, or None with its faults noted in the document."""
    before = len(document.faults)
    if not 0 < len(name) <= LONGEST_NAME or any(ord(sign) < 32 or sign in '"\\' for sign in name):
        cure = f"At most {LONGEST_NAME} visible characters, without quotes and backslashes."
        document.fault(where, f"{name!r} is no name.", cure)
    if not isinstance(stated, dict):
        cure = f'Write "{name}: {{type: number}}" at least.'
        document.fault(where, "A feature must be a mapping.", cure)
        return None
    if stated.get("type") not in FEATURE_TYPES:
        cure = f"Write one of {', '.join(FEATURE_TYPES)}."
        document.fault((*where, "type"), f"{stated.get('type')!r} is no type.", cure)
        return None
    kind: FeatureType = stated["type"]
    _check_keys(document, where, stated, kind)
    bare = _without_policies(document, where, name, stated, kind)
    if len(document.faults) > before:
        return None
    feature = _with_policies(document, where, stated, bare)
    return feature if len(document.faults) == before else None


def _check_keys(
    document: LocatedYaml, where: Where, stated: dict[str, Any], kind: FeatureType
) -> None:
    fitting = (*COMMON_KEYS, *KEYS_OF_TYPE[kind])
    elsewhere = {key for keys in KEYS_OF_TYPE.values() for key in keys} - set(fitting)
    for key in (key for key in stated if key in elsewhere):
        types = [other for other, keys in KEYS_OF_TYPE.items() if key in keys]
        cure = f"It is for {', '.join(types)}: take it out, or change the type."
        document.fault((*where, key), f"{key} does not fit a {kind}.", cure)
    rest = {key: value for key, value in stated.items() if key not in elsewhere}
    check_keys(document, where, rest, fitting)


def _without_policies(
    document: LocatedYaml, where: Where, name: str, stated: dict[str, Any], kind: FeatureType
) -> Feature:
    low, high = (_bound(document, (*where, key), stated.get(key), kind) for key in RANGE_KEYS[:2])
    if low is not None and high is not None and low > high:
        cure = "Exchange them: both are allowed values themselves."
        document.fault((*where, "minimum"), f"minimum {low} is above maximum {high}.", cure)
    return Feature(
        name=name,
        type=kind,
        description=_optional_text(document, where, stated, "description") or "",
        unit=_optional_text(document, where, stated, "unit"),
        source=_source(document, (*where, "source"), stated.get("source")),
        sensitive=_flag(document, where, stated, "sensitive"),
        minimum=low,
        maximum=high,
        categories=_categories(document, where, stated) if kind == "category" else (),
        length=_count(document, where, stated, "length") if kind == "vector" else None,
        max_length=_count(document, where, stated, "max_length")
        if "max_length" in stated
        else None,
    )


def _with_policies(
    document: LocatedYaml, where: Where, stated: dict[str, Any], bare: Feature
) -> Feature:
    policies = {
        key: _policy(document, (*where, key), stated[key], key, bare)
        for key in ACTIONS
        if key in stated
    }
    if "on_out_of_range" in stated and bare.minimum is None and bare.maximum is None:
        cure = "Give a minimum or a maximum, or take the policy out."
        document.fault((*where, "on_out_of_range"), "There is no range to be out of.", cure)
    example = stated.get("example")
    if example is not None:
        _check_value(document, (*where, "example"), example, bare)
    return msgspec.structs.replace(bare, example=example, **policies)


def _policy(document: LocatedYaml, where: Where, stated: Any, key: str, bare: Feature) -> Policy:
    with_value = ACTIONS[key][-1] if ACTIONS[key][-1] in ("impute", "map_to") else None
    if isinstance(stated, str) and stated in ACTIONS[key] and stated != with_value:
        return Policy(stated)  # type: ignore[arg-type]
    if isinstance(stated, dict) and list(stated) == [with_value]:
        value = stated[with_value]
        _check_value(document, (*where, str(with_value)), value, bare)
        return Policy(with_value, value)  # type: ignore[arg-type]
    words = [f"{{{action}: value}}" if action == with_value else action for action in ACTIONS[key]]
    document.fault(where, f"{stated!r} is no policy for {key}.", f"Write {', '.join(words)}.")
    return Policy()


def _check_value(document: LocatedYaml, where: Where, value: Any, bare: Feature) -> None:
    """Note a fault if the feature itself, without its policies, would refuse the value."""
    try:
        check_value(bare, value, [])
    except RefusedValueError as refused:
        document.fault(where, refused.fault.message, "Write a value that needs no policy itself.")


def _bound(document: LocatedYaml, where: Where, value: Any, kind: FeatureType) -> Any:
    if value is None:
        return None
    if kind == "datetime":
        try:
            moment = msgspec.convert(value, dt.datetime)
        except msgspec.ValidationError:
            moment = None
        if moment is None or moment.tzinfo is None:
            cure = 'Write it with its offset, such as "2026-01-31T00:00:00Z".'
            document.fault(where, f"{value!r} is no date and time.", cure)
        return moment
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) <= sys.float_info.max:
        document.fault(where, f"{value!r} is no number.", "Write a number without quotes.")
        return None
    if kind == "integer" and (value != int(value) or abs(value) > LARGEST_INTEGER):
        cure = "Write a whole number between -2^53 and 2^53."
        document.fault(where, f"{value!r} is no limit of an integer.", cure)
        return None
    return value


def _optional_text(
    document: LocatedYaml, where: Where, stated: dict[str, Any], key: str
) -> str | None:
    value = stated.get(key)
    if value is None or isinstance(value, str):
        return value
    document.fault((*where, key), f"{key} must be text, not {value!r}.", "Put it in quotes.")
    return None


def _flag(document: LocatedYaml, where: Where, stated: dict[str, Any], key: str) -> bool:
    value = stated.get(key, False)
    if not isinstance(value, bool):
        document.fault((*where, key), f"{value!r} is neither true nor false.", "Write one of them.")
    return value is True


def _source(document: LocatedYaml, where: Where, stated: Any) -> Source | None:
    if stated is None:
        return None
    try:
        return msgspec.convert(stated, Source, strict=True)
    except msgspec.ValidationError:
        cure = "Write {system: where it comes from, owner: who answers for it}."
        document.fault(where, "source needs a system and an owner.", cure)
        return None


def _categories(document: LocatedYaml, where: Where, stated: dict[str, Any]) -> tuple[str, ...]:
    value = stated.get("categories")
    where = (*where, "categories")
    if not isinstance(value, list) or not value:
        document.fault(where, "A category needs its categories.", "Write a list: [a, b, c].")
        return ()
    return text_list(document, where, value)


def text_list(document: LocatedYaml, where: Where, value: list[Any]) -> tuple[str, ...]:
    """Return a list of different, non-empty texts, noting what is none."""
    for index, item in enumerate(value):
        if isinstance(item, bool):
            cure = 'YAML reads yes, no, on and off as booleans: put them in quotes, such as "no".'
            document.fault((*where, index), f"{item!r} is no text.", cure)
        elif not isinstance(item, str):
            document.fault((*where, index), f"{item!r} is no text.", f'Write "{item}", in quotes.')
        elif not item:
            cure = "An empty text means missing: use on_missing."
            document.fault((*where, index), "An empty text cannot be chosen.", cure)
        elif item in value[:index]:
            document.fault((*where, index), f"{item!r} stands twice.", "Keep one.")
    return tuple(str(item) for item in value)


def _count(document: LocatedYaml, where: Where, stated: dict[str, Any], key: str) -> int | None:
    value = stated.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 100_000:
        return value
    cure = f"Write how many: {key}: 3."
    document.fault((*where, key), f"{key} must be a number from 1 to 100000, not {value!r}.", cure)
    return None


assert set(KEYS_OF_TYPE) == set(get_args(FeatureType))
