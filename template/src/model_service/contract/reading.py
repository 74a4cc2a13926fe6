"""`contract.yaml` to `Contract`, or every fault with its line and its cure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from model_service.contract.contract import Contract, Feature
from model_service.contract.faults import ContractError, ContractFault
from model_service.contract.feature_reading import read_feature
from model_service.contract.located_yaml import LocatedYaml, check_keys, text_of
from model_service.contract.output_reading import read_output
from model_service.contract.rows import RowReader

__all__ = ["ContractError", "ContractFault", "parse_contract", "read_contract"]

MODEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
RESERVED_NAMES = frozenset({"stats", "ready", "versions"})
CONTRACT_VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")
KEYS = (
    "name",
    "contract_version",
    "description",
    "unknown_fields",
    "features",
    "output",
    "examples",
)


def read_contract(path: Path) -> Contract:
    """Read the contract of a model's folder.

    Raises:
        ContractError: the file cannot be read or has faults; it names all of them.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        cure = "Write one, or draft it from data with `contract infer`."
        raise ContractError([ContractFault(path, 1, "", "There is no contract.", cure)]) from None
    except (OSError, UnicodeDecodeError) as error:
        fault = ContractFault(
            path, 1, "", f"The file cannot be read: {error}.", "Save it as UTF-8."
        )
        raise ContractError([fault]) from None
    return parse_contract(text, path)


def parse_contract(text: str, path: Path, *, model: str | None = None) -> Contract:
    """Read the text of a contract. `model` is the name it must have; default: its folder's.

    Raises:
        ContractError: the contract has faults; it names all of them.
    """
    document = LocatedYaml(text, path)
    stated = document.value
    if not isinstance(stated, dict):
        document.fault((), "A contract must be a mapping.", 'Begin with "name: your_model".')
        raise ContractError(document.faults)
    check_keys(document, (), stated, KEYS)
    name = _name(document, stated, model or path.parent.name)
    features = _features(document, stated.get("features"))
    output = read_output(document, stated.get("output"))
    if output and output.name in {feature.name for feature in features}:
        cure = "A model must not be given what it predicts: take the feature out."
        document.fault(("output", "name"), f"{output.name!r} is a feature as well.", cure)
    contract_version = _contract_version(document, stated)
    description = text_of(document, (), stated, "description")
    unknown = _unknown_fields(document, stated)
    if document.faults or output is None:
        raise ContractError(document.faults)
    contract = Contract(
        name=name,
        contract_version=contract_version,
        description=description,
        features=features,
        output=output,
        unknown_fields=unknown,
    )
    examples = _examples(document, stated.get("examples"), contract)
    if document.faults:
        raise ContractError(document.faults)
    return msgspec.structs.replace(contract, examples=examples)


def _name(document: LocatedYaml, stated: dict[str, Any], expected: str) -> str:
    name = stated.get("name")
    if not isinstance(name, str) or not MODEL_NAME.fullmatch(name):
        cure = "Small letters, digits and underscores, beginning with a letter, at most 63."
        document.fault(("name",), f"{name!r} cannot be a model's name.", cure)
        return ""
    if name in RESERVED_NAMES:
        document.fault(("name",), f"{name!r} is a word of the protocol.", "Choose another name.")
    if name != expected:
        cure = f"Write name: {expected}, or rename the folder."
        document.fault(("name",), f"{name!r} is not the name of the folder.", cure)
    return name


def _contract_version(document: LocatedYaml, stated: dict[str, Any]) -> str:
    value = stated.get("contract_version")
    if isinstance(value, str) and CONTRACT_VERSION.fullmatch(value):
        return value
    shown = f'"{value}"' if isinstance(value, float) else '"1.0"'
    problem = "contract_version must be major.minor, as text."
    document.fault(("contract_version",), problem, f"Write contract_version: {shown}, with quotes.")
    return ""


def _unknown_fields(document: LocatedYaml, stated: dict[str, Any]) -> Any:
    value = stated.get("unknown_fields", "reject")
    if value not in ("reject", "ignore"):
        document.fault(("unknown_fields",), f"{value!r} is no rule.", "Write reject or ignore.")
    return value


def _features(document: LocatedYaml, stated: Any) -> tuple[Feature, ...]:
    if not isinstance(stated, dict) or not stated:
        cure = 'Write a mapping from names to features, such as "age: {type: integer}".'
        document.fault(("features",), "A contract needs features.", cure)
        return ()
    read = [read_feature(document, ("features", name), name, stated[name]) for name in stated]
    return tuple(feature for feature in read if feature is not None)


def _examples(document: LocatedYaml, stated: Any, contract: Contract) -> tuple[dict[str, Any], ...]:
    if stated is None:
        return ()
    if not isinstance(stated, list) or not all(isinstance(row, dict) for row in stated):
        document.fault(
            ("examples",), "examples must be a list of rows.", "Write - {feature: value}."
        )
        return ()
    read = RowReader(contract).read_rows(stated)
    for position, faults in read.faults.items():
        for fault in faults:
            field = fault.pointer.removeprefix("/").replace("~1", "/").replace("~0", "~")
            document.fault(
                ("examples", position, field),
                fault.message,
                "An example must be a row that is answered.",
            )
    return tuple(stated)
