"""The output of `contract.yaml`."""

from __future__ import annotations

from typing import Any

from model_service.contract.contract import OUTPUT_TYPES, Output
from model_service.contract.feature_reading import text_list
from model_service.contract.located_yaml import LocatedYaml, Where, check_keys, text_of

COMMON_KEYS = ("name", "type", "meaning", "unit")
KEYS_OF_TYPE = {
    "class": ("classes", "calibrated", "thresholds", "decided_by"),
    "number": ("minimum", "maximum"),
    "vector": ("length", "minimum", "maximum"),
}
TENSORS_BESIDE = {"class": ("prediction_id", "probabilities")}
"""What `/v2` answers beside the tensor that has the output's name."""
WHERE: Where = ("output",)


def read_output(document: LocatedYaml, stated: Any) -> Output | None:
    """Return the output, or None with its faults noted in the document."""
    before = len(document.faults)
    if not isinstance(stated, dict):
        cure = 'Write "output: {name: price, type: number, meaning: …}".'
        document.fault(WHERE, "A contract needs an output.", cure)
        return None
    kind = stated.get("type")
    if kind not in OUTPUT_TYPES:
        cure = f"Write one of {', '.join(OUTPUT_TYPES)}."
        document.fault((*WHERE, "type"), f"{kind!r} is no type of output.", cure)
        return None
    check_keys(document, WHERE, stated, (*COMMON_KEYS, *KEYS_OF_TYPE[kind]))
    classes = _classes(document, stated) if kind == "class" else ()
    _check_range(document, stated)
    if stated.get("name") in TENSORS_BESIDE.get(kind, ("prediction_id",)):
        problem = f"{stated['name']!r} is another tensor of the Open Inference Protocol's answer."
        document.fault((*WHERE, "name"), problem, "Choose another name.")
    output = Output(
        name=text_of(document, WHERE, stated, "name"),
        type=kind,
        meaning=text_of(document, WHERE, stated, "meaning"),
        unit=_optional(document, stated, "unit", str, "text"),
        minimum=_optional(document, stated, "minimum", int | float, "a number"),
        maximum=_optional(document, stated, "maximum", int | float, "a number"),
        classes=classes,
        calibrated=_optional(document, stated, "calibrated", bool, "true or false"),
        thresholds=_thresholds(document, stated, classes),
        decided_by=_optional(document, stated, "decided_by", str, "text"),
        length=_length(document, stated) if kind == "vector" else None,
    )
    return output if len(document.faults) == before else None


def _optional(
    document: LocatedYaml, stated: dict[str, Any], key: str, kind: Any, words: str
) -> Any:
    value = stated.get(key)
    if value is None or (isinstance(value, kind) and (kind is bool or value not in (True, False))):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and kind == (int | float):
        return value
    document.fault((*WHERE, key), f"{value!r} is not {words}.", f"Write {words}.")
    return None


def _classes(document: LocatedYaml, stated: dict[str, Any]) -> tuple[str, ...]:
    value = stated.get("classes")
    if not isinstance(value, list) or len(value) < 2:
        cure = "Write all of them: classes: [stays, leaves]."
        document.fault((*WHERE, "classes"), "A class output needs two classes or more.", cure)
        return ()
    return text_list(document, (*WHERE, "classes"), value)


def _check_range(document: LocatedYaml, stated: dict[str, Any]) -> None:
    low, high = stated.get("minimum"), stated.get("maximum")
    if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
        document.fault((*WHERE, "minimum"), "minimum is above maximum.", "Exchange them.")


def _thresholds(
    document: LocatedYaml, stated: dict[str, Any], classes: tuple[str, ...]
) -> dict[str, float]:
    value = stated.get("thresholds")
    if value is None:
        return {}
    where = (*WHERE, "thresholds")
    if not isinstance(value, dict):
        document.fault(where, "thresholds must be a mapping.", "Write {class: probability}.")
        return {}
    for name, share in value.items():
        if classes and name not in classes:
            cure = f"Classes: {', '.join(classes)}."
            document.fault((*where, name), f"{name!r} is no class of the output.", cure)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            document.fault((*where, name), f"{share!r} is no probability.", "Write 0 to 1.")
    if not stated.get("decided_by"):
        cure = "Add decided_by: the team that may change them."
        document.fault(where, "Somebody decides the thresholds.", cure)
    return value


def _length(document: LocatedYaml, stated: dict[str, Any]) -> int | None:
    value = stated.get("length")
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    document.fault((*WHERE, "length"), "A vector needs its length.", "Write length: 3.")
    return None
