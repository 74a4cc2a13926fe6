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
            join_inputs(model, layout)
        _keep_last_output(model)
        return bytes(model.SerializeToString())
    raise ConversionError("; ".join(problems))


def join_inputs(model: Any, layout: InputLayout) -> None:
    """Let two blocks take the place of the inputs, and rename what read the single columns."""
    from onnx import TensorProto, helper

    graph = model.graph
    opset = max(known.version for known in model.opset_import if not known.domain)
    # The converter has given the columns names of its own where theirs are no identifiers.
    given = [column.name for column in graph.input]
    del graph.input[:]
    blocks = (
        ("numbers", TensorProto.FLOAT, len(layout.numbers)),
        ("text", TensorProto.STRING, len(layout.text)),
    )
    # A feature may be called as a block is: all columns get other names at once.
    columns_of = {
        block: [f"{block}:{place}" for place in range(count)] for block, _, count in blocks
    }
    joined = [column for columns in columns_of.values() for column in columns]
    _rename(graph, dict(zip(given, joined, strict=True)))
    for block, kind, count in blocks:
        columns = columns_of[block]
        if not columns:
            continue
        graph.input.append(helper.make_tensor_value_info(block, kind, [None, count]))
        _read_whole(graph, block, columns)
        if not any(column in node.input for node in graph.node for column in columns):
            continue
        node = helper.make_node("Identity", [block], columns)
        if count > 1:
            # Before opset 18 as many parts as there are outputs was the default, and no attribute.
            parts: dict[str, Any] = {"num_outputs": count} if opset >= 18 else {}
            node = helper.make_node("Split", [block], columns, axis=1, **parts)
        graph.node.insert(0, node)


def _rename(graph: Any, names: dict[str, str]) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)


def _read_whole(graph: Any, block: str, columns: list[str]) -> None:
    """Drop nodes that only join the columns again: a seventh of the time of a small graph."""
    for node in list(graph.node):
        if node.op_type == "Concat" and list(node.input) == columns and node.attribute[0].i == 1:
            _rename(graph, {node.output[0]: block})
            graph.node.remove(node)


def _keep_last_output(model: Any) -> None:
    # A classifier also gives its label, which the contract's thresholds may overrule.
    while len(model.graph.output) > 1:
        del model.graph.output[0]
