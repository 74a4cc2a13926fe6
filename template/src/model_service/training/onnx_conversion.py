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
    """Let two blocks take the place of the inputs, and rename what read the single columns."""
    from onnx import TensorProto, helper

    graph = model.graph
    del graph.input[:]
    blocks = {
        "numbers": (TensorProto.FLOAT, layout.numbers),
        "text": (TensorProto.STRING, layout.text),
    }
    # A feature may be called as a block is: all columns get other names at once.
    renamed = {
        name: f"{block}:{place}"
        for block, (_, names) in blocks.items()
        for place, name in enumerate(names)
    }
    _rename(graph, renamed)
    for block, (kind, names) in blocks.items():
        columns = [renamed[name] for name in names]
        if not columns:
            continue
        graph.input.append(helper.make_tensor_value_info(block, kind, [None, len(columns)]))
        _read_whole(graph, block, columns)
        if not any(column in node.input for node in graph.node for column in columns):
            continue
        node = helper.make_node("Identity", [block], columns)
        if len(columns) > 1:
            node = helper.make_node("Split", [block], columns, axis=1, num_outputs=len(columns))
        graph.node.insert(0, node)


def _rename(graph: Any, names: dict[str, str]) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)


def _read_whole(graph: Any, block: str, columns: list[str]) -> None:
    """Drop the nodes that only put the columns together again: a fifth of a small graph's time."""
    for node in list(graph.node):
        if node.op_type == "Concat" and list(node.input) == columns and node.attribute[0].i == 1:
            _rename(graph, {node.output[0]: block})
            graph.node.remove(node)


def _keep_last_output(model: Any) -> None:
    # A classifier also gives its label, which the contract's thresholds may overrule.
    while len(model.graph.output) > 1:
        del model.graph.output[0]
