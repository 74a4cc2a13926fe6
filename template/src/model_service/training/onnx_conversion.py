"""A fitted scikit-learn pipeline as an ONNX graph with two blocks of inputs."""

from __future__ import annotations

from typing import Any

from model_service.registry.inputs import InputLayout

OPSET = 18
ML_OPSET = 3


class ConversionError(Exception):
    """The pipeline has no ONNX form; says why."""


def onnx_of(estimator: Any, layout: InputLayout, has_classes: bool) -> bytes:
    """Return the graph: `numbers` float32 (rows, n) and `text` strings (rows, m) to one output.

    skl2onnx wants an input per column, and a tensor per column costs more than the arithmetic of
    a small model: the inputs are joined into two blocks afterwards.

    Raises:
        ConversionError: a step of the pipeline does not convert.
    """
    try:
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    except ImportError as error:
        raise ConversionError(f"skl2onnx cannot be imported: {error}") from error
    options = {id(estimator): {"zipmap": False}} if has_classes else None
    columns = [(name, FloatTensorType([None, 1])) for name in layout.numbers]
    columns += [(name, StringTensorType([None, 1])) for name in layout.text]
    block = [("numbers", FloatTensorType([None, len(layout.numbers)]))]
    attempts = [columns] if layout.text else [columns, block]
    problems = []
    for types in attempts:
        try:
            model = to_onnx(
                estimator,
                initial_types=types,
                options=options,
                target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
            )
        except Exception as error:  # noqa: BLE001 - converters of other libraries raise anything
            problems.append(f"{type(error).__name__}: {str(error).splitlines()[0][:200]}")
            continue
        if types is columns:
            _join_inputs(model, layout)
        _keep_last_output(model)
        return bytes(model.SerializeToString())
    raise ConversionError("; ".join(problems))


def _join_inputs(model: Any, layout: InputLayout) -> None:
    from onnx import TensorProto, helper

    graph = model.graph
    del graph.input[:]
    blocks = (
        ("numbers", TensorProto.FLOAT, layout.numbers),
        ("text", TensorProto.STRING, layout.text),
    )
    nodes = []
    for block, kind, names in blocks:
        if not names:
            continue
        graph.input.append(helper.make_tensor_value_info(block, kind, [None, len(names)]))
        if len(names) == 1:
            nodes.append(helper.make_node("Identity", [block], [names[0]]))
        else:
            nodes.append(
                helper.make_node("Split", [block], list(names), axis=1, num_outputs=len(names))
            )
    for node in reversed(nodes):
        graph.node.insert(0, node)


def _keep_last_output(model: Any) -> None:
    # A classifier also gives its label, which the contract's thresholds may overrule.
    while len(model.graph.output) > 1:
        del model.graph.output[0]
