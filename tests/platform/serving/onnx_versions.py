"""Real versions in the registry's own format, made by hand from tiny ONNX graphs.

    python onnx_versions.py FOLDER NAME...

Writes a repository whose models each add up two numbers; one named twice has two versions. Runs
in a process of its own, so that the tests' process need not import `onnx`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper

from model_service.contract.reading import parse_contract
from model_service.contract.rows import RowReader
from model_service.registry.golden import GoldenPrediction, write_golden
from model_service.registry.inputs import layout_of
from model_service.registry.manifest import GitState, Manifest
from model_service.registry.registry import Registry
from model_service.registry.traffic import promote

CONTRACT = """\
name: {name}
contract_version: "1.0"
description: Adds two numbers.
features:
  a:
    type: number
    description: the first
    unit: "1"
    source: {{system: tests, owner: tests}}
    on_missing: {{impute: 1.0}}
    example: 1.5
  b:
    type: number
    description: the second
    unit: "1"
    source: {{system: tests, owner: tests}}
    example: 2.0
output:
  name: sum
  type: number
  unit: "1"
  meaning: a plus b
examples:
  - {{a: 1.5, b: 2.0}}
"""
FEATURES = """\
def features(columns):
    return {"a": columns["a"], "b": columns["b"]}
"""


# One model answers otherwise for some values of `a`, as code of data scientists may.
MOODY_FEATURES = """\
import time

import numpy as np


def features(columns):
    a = columns["a"]
    if (a == 661).any():
        raise ValueError("secret 4711")
    if (a == 663).any():
        return {"a": a[:-1], "b": columns["b"]}
    while (a == 664).any():
        time.sleep(0.1)
    return {"a": np.where(a == 662, np.nan, a), "b": columns["b"]}
"""

# One model is not loaded before a file is gone, or ends its process when it is asked first.
STUCK_FEATURES = """\
import os
import sys
import time

HELD_BY = os.environ.get("HELD_BY", "")
while os.path.exists(HELD_BY):
    time.sleep(0.05)


def features(columns):
    if HELD_BY == "exit":
        sys.exit(3)
    return {"a": columns["a"], "b": columns["b"]}
"""
FEATURES_OF = {"moody": MOODY_FEATURES, "stuck": STUCK_FEATURES}


def adding_graph() -> bytes:
    """Return a graph that adds up the columns of `numbers`."""
    numbers = helper.make_tensor_value_info("numbers", TensorProto.FLOAT, [None, 2])
    total = helper.make_tensor_value_info("total", TensorProto.FLOAT, [None, 1])
    ones = helper.make_tensor("ones", TensorProto.FLOAT, [2, 1], [1.0, 1.0])
    node = helper.make_node("MatMul", ["numbers", "ones"], ["total"])
    graph = helper.make_graph([node], "adds", [numbers], [total], [ones])
    opset = [helper.make_opsetid("", 17)]
    content: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    onnx.checker.check_model(content)
    return content


def publish(root: Path, name: str) -> None:
    """Write one version of a model and make it the champion."""
    text = CONTRACT.format(name=name)
    (root / "models" / name).mkdir(parents=True, exist_ok=True)
    path = root / "models" / name / "contract.yaml"
    path.write_text(text)
    reader = RowReader(parse_contract(text, path))
    read = reader.read_rows([{"a": 1.5, "b": 2.0}])
    manifest = Manifest(
        model=name,
        version="0",
        created_at="2026-01-01T00:00:00Z",
        contract_version="1.0",
        format="onnx",
        model_file="model.onnx",
        inputs=layout_of({"a": np.zeros(1), "b": np.zeros(1)}),
        classes=(),
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
    assert not read.faults
    registry = Registry(root / "registry")
    with registry.incoming(name) as folder:
        (folder / "contract.yaml").write_text(text)
        (folder / "features.py").write_text(FEATURES_OF.get(name, FEATURES))
        (folder / "model.onnx").write_bytes(adding_graph())
        write_golden(folder, [GoldenPrediction({"a": 1.5, "b": 2.0}, 3.5)])
        published = registry.publish(folder, manifest)
    promote(root / "traffic.yaml", name, published.version, "tests")


if __name__ == "__main__":
    for model in sys.argv[2:]:
        publish(Path(sys.argv[1]), model)
    (Path(sys.argv[1]) / "service.yaml").write_bytes(b"name: " + msgspec.json.encode("acme"))
