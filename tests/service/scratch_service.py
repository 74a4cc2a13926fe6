"""A small repository of models whose contracts use every type and policy, made without training.

Its two models are tiny ONNX graphs, published by the registry as training does it.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model_service.contract.contract import Contract
from model_service.contract.reading import read_contract
from model_service.contract.rows import RowReader
from model_service.registry.golden import GoldenPrediction, write_golden
from model_service.registry.inputs import InputLayout
from model_service.registry.loaded_version import golden_of, load_version
from model_service.registry.manifest import (
    GitState,
    Manifest,
    digests_of,
    read_manifest,
    write_manifest,
)
from model_service.registry.registry import Registry
from tests.rendering import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FEATURES = """\
  amount: {type: number, minimum: 0, maximum: 100, on_missing: {impute: 5}, on_out_of_range: clip}
  count: {type: integer, minimum: -3, maximum: 30, on_missing: pass, on_out_of_range: pass}
  open: {type: number}
  rate: {type: number, maximum: 1, on_missing: pass}
  flag: {type: boolean, on_missing: pass}
  place: {type: category, categories: [here, there], on_unknown: pass, on_missing: pass}
  kind: {type: category, categories: [a, b], on_unknown: {map_to: b}, on_missing: {impute: a}}
  strict: {type: category, categories: [x, y]}
  note: {type: string, max_length: 8, on_missing: pass}
  at: {type: datetime, minimum: 2020-01-01T00:00:00Z, maximum: 2030-01-01T00:00:00Z}
  shape: {type: vector, length: 3, minimum: -1, maximum: 1, on_out_of_range: clip}
"""
CONTRACT = """\
name: {name}
contract_version: "1.0"
description: A model for tests.
unknown_fields: {unknown_fields}
features:
{features}output:
{output}
"""
OUTPUTS = {
    "every_type": "  {name: label, type: class, classes: [low, mid, high], meaning: A label.}",
    "a_number": "  {name: size, type: number, unit: mm, meaning: A size.}",
}
FEATURE_CODE = '''\
"""Numbers of every column."""

import numpy as np


def features(columns):
    numbers = [np.nan_to_num(columns[name]) for name in ("amount", "count", "rate", "flag")]
    numbers.append(np.clip(columns["open"], -1e3, 1e3))
    numbers.append(columns["shape"][:, 0])
    numbers.append(np.array([float(len(text)) for text in columns["note"]]))
    numbers.append((columns["place"] == "here").astype(float))
    numbers.append((columns["kind"] == "b").astype(float))
    return {"numbers": np.stack(numbers, axis=1) / 100}
'''
WIDTH = 9


def make_service(root: Path) -> Path:
    """Make a repository with the platform, its tests, and a version of two models."""
    template = ROOT / "template"
    for name in ("src", "tests", "config"):
        ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
        shutil.copytree(template / name, root / name, ignore=ignored)
    (root / "service.yaml").write_text("name: acme-models\n", encoding="utf-8")
    champions = ""
    for model in OUTPUTS:
        _write_model(root / "models" / model)
        _publish(root, model)
        champions += f'  {model}: {{champion: "1", pinned: [], history: []}}\n'
    (root / "traffic.yaml").write_text(f"models:\n{champions}", encoding="utf-8")
    return root


def seal_again(version: Path) -> None:
    """Make the manifest of a version that was edited agree with its files."""
    manifest = msgspec.structs.replace(read_manifest(version), files=digests_of(version))
    write_manifest(version, manifest)


def _write_model(folder: Path) -> None:
    folder.mkdir(parents=True)
    rule = "reject" if folder.name == "every_type" else "ignore"
    text = CONTRACT.format(
        name=folder.name, unknown_fields=rule, features=FEATURES, output=OUTPUTS[folder.name]
    )
    (folder / "contract.yaml").write_text(text, encoding="utf-8")
    (folder / "features.py").write_text(FEATURE_CODE, encoding="utf-8")


def _publish(root: Path, model: str) -> None:
    source = root / "models" / model
    contract = read_contract(source / "contract.yaml")
    registry = Registry(root / "registry")
    rows = _rows(30)
    with registry.incoming(model) as folder:
        for name in ("contract.yaml", "features.py"):
            shutil.copy(source / name, folder / name)
        (folder / "model.onnx").write_bytes(_graph(len(contract.output.classes)))
        # Loaded once to learn what it answers; these answers become the golden predictions.
        write_golden(folder, [GoldenPrediction({}, 0.0)])
        manifest = _manifest(contract)
        write_manifest(folder, msgspec.structs.replace(manifest, files=digests_of(folder)))
        loaded = load_version(folder)
        read = RowReader(contract).read_rows(rows)
        write_golden(folder, golden_of(loaded, read, rows))
        registry.publish(folder, manifest)


def _rows(count: int) -> list[dict[str, object]]:
    chosen = np.random.default_rng(7)
    return [
        {
            "amount": float(chosen.uniform(0, 100)),
            "count": int(chosen.integers(-3, 31)),
            "open": float(chosen.normal()),
            "rate": None if index % 5 == 0 else float(chosen.uniform(0, 1)),
            "flag": bool(chosen.integers(0, 2)),
            "place": ["here", "there", "elsewhere"][index % 3],
            "kind": ["a", "b"][index % 2],
            "strict": "x",
            "note": "note"[: index % 5],
            "at": "2026-01-31T12:00:00Z",
            "shape": [float(number) for number in chosen.uniform(-1, 1, 3)],
        }
        for index in range(count)
    ]


def _manifest(contract: Contract) -> Manifest:
    return Manifest(
        model=contract.name,
        version="1",
        created_at="2026-01-31T12:00:00Z",
        contract_version=contract.contract_version,
        format="onnx",
        model_file="model.onnx",
        inputs=InputLayout(tuple(f"numbers_{index}" for index in range(WIDTH)), ()),
        classes=contract.output.classes,
        metrics={},
        baseline={},
        gates=(),
        parity=None,
        rows={},
        data_sha256="",
        seed=0,
        git=GitState(None, False),
        libraries={},
    )


def _graph(classes: int) -> bytes:
    weights = np.random.default_rng(1).normal(size=(WIDTH, max(classes, 1))).astype(np.float32)
    last = "Softmax" if classes else "Identity"
    nodes = [
        helper.make_node("MatMul", ["numbers", "weights"], ["scores"]),
        helper.make_node(last, ["scores"], ["answer"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, [None, WIDTH])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [None, max(classes, 1)])],
        [numpy_helper.from_array(weights, "weights")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content
