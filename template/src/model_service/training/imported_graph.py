"""An ONNX file from elsewhere, asked as it is, and as the graph that a version is served from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.registry.inputs import InputLayout
from model_service.training.onnx_conversion import ConversionError, join_inputs
from model_service.training.recipe import TrainingError

FLOAT, STRING = 1, 8
CASTS = {6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64, FLOAT: np.float32, STRING: object}
"""The element types of an input that a column of numbers or text can become."""


class ImportedGraph:
    """A graph that takes a column per input, or all its columns as one block of numbers.

    It answers tables as a fitted estimator does, so that it becomes a version in the same way.
    """

    def __init__(self, content: bytes, name: str, columns: Sequence[str]) -> None:
        """Read the graph; `columns` are those of the sample, in order, without the target.

        Raises:
            TrainingError: the file is no ONNX graph, or takes or gives what no row has.
        """
        import onnx
        import onnxruntime

        try:
            self._model = onnx.load_from_string(content)
            self._session = onnxruntime.InferenceSession(
                content, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise TrainingError(f"{name} is no ONNX graph that runs here: {error}") from error
        self.classes_ = np.array(_class_labels(self._model), dtype=object)
        self._drop_zip_map()
        self._takes = {taken.name: _element_type(name, taken) for taken in self._model.graph.input}
        only = self._model.graph.input[0]
        named = _plain(only.name) in map(_plain, columns)
        # One input that is called as no column is takes them all.
        self._is_block = len(self._takes) == 1 and (_width(only) != 1 or not named)
        # The graph of a version: features() gives its columns, numbers first.
        self._is_served = set(self._takes) == {"numbers", "text"} and "numbers" not in columns
        self.feature_names_in_ = self._columns_taken(name, list(columns))

    def predict(self, table: Any) -> NDArray[Any]:
        """Return the last output for a table, asked from the file as it was given."""
        answer = self._session.run(None, self._feed(table))[-1]
        if isinstance(answer, list):  # a ZipMap's: a mapping from classes to probabilities per row
            return np.array([list(row.values()) for row in answer])
        return np.asarray(answer)

    predict_proba = predict

    def served(self, layout: InputLayout) -> bytes:
        """Return the graph with the inputs and the output that a version has.

        Raises:
            ConversionError: `features()` does not give the inputs that the graph takes.
        """
        from onnx import ModelProto, TensorProto, helper

        model = ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph
        while len(graph.output) > 1:
            del graph.output[0]
        if self._is_served:
            widths = {taken.name: _width(taken) for taken in graph.input}
            given = {"numbers": len(layout.numbers), "text": len(layout.text)}
            if widths != given:
                raise ConversionError(f"the graph takes {widths}, features() gives {given}")
            return bytes(model.SerializeToString())
        names = {_plain(name): place for place, name in enumerate((*layout.numbers, *layout.text))}
        if not self._is_block and set(names) != set(map(_plain, self._takes)):
            raise ConversionError(
                f"features() gives {', '.join((*layout.numbers, *layout.text))}, the graph takes "
                f"{', '.join(self._takes)}"
            )
        for taken in graph.input:
            if self._takes[taken.name] not in (FLOAT, STRING):
                cast = f"{taken.name}:float"
                kind = self._takes[taken.name]
                graph.node.insert(0, helper.make_node("Cast", [cast], [taken.name], to=kind))
                taken.name = cast
                taken.type.tensor_type.elem_type = TensorProto.FLOAT
        if self._is_block:
            count = len(layout.numbers)
            width = _width(graph.input[0])
            if layout.text or width not in (0, count):
                raise ConversionError(f"the graph takes {width} numbers, features() gives {count}")
            _read_as_numbers(graph)
            return bytes(model.SerializeToString())
        ordered = sorted(graph.input, key=lambda i: names[_plain(i.name.removesuffix(":float"))])
        copies = [type(taken).FromString(taken.SerializeToString()) for taken in ordered]
        del graph.input[:]
        graph.input.extend(copies)
        join_inputs(model, layout)
        return bytes(model.SerializeToString())

    def _columns_taken(self, name: str, columns: list[str]) -> NDArray[Any]:
        if self._is_block:
            width = _width(self._model.graph.input[0]) or len(columns)
            if width == len(columns):
                return np.array(columns, dtype=object)
            return np.array([f"number {place + 1} of {width}" for place in range(width)])
        if self._is_served:
            return np.array([f"{block} of a version" for block in self._takes], dtype=object)
        by_plain_name = {_plain(column): column for column in columns}
        missing = [taken for taken in self._takes if _plain(taken) not in by_plain_name]
        if missing:
            raise TrainingError(
                f"{name} takes {', '.join(missing)}, and the sample has no such column: it has "
                f"{', '.join(columns)}. Rename the columns of the sample."
            )
        return np.array([by_plain_name[_plain(taken)] for taken in self._takes], dtype=object)

    def _feed(self, table: Any) -> dict[str, NDArray[Any]]:
        if self._is_block:
            ((name, kind),) = self._takes.items()
            return {name: table.to_numpy(dtype=CASTS[kind])}
        if self._is_served:
            count = next(_width(i) for i in self._model.graph.input if i.name == "numbers")
            numbers, text = table.iloc[:, :count], table.iloc[:, count:]
            return {"numbers": numbers.to_numpy("float32"), "text": text.to_numpy(object)}
        columns = {_plain(str(column)): table[column] for column in table.columns}
        return {
            name: columns[_plain(name)].to_numpy(dtype=CASTS[kind]).reshape(-1, 1)
            for name, kind in self._takes.items()
        }

    def _drop_zip_map(self) -> None:
        """Let the last output be the probabilities themselves instead of a mapping per row."""
        from onnx import TensorProto, helper

        graph = self._model.graph
        last = graph.output[-1].name
        for node in graph.node:
            if node.op_type == "ZipMap" and node.output[0] == last:
                shares = helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, None)
                graph.node.remove(node)
                graph.output.pop()
                graph.output.append(shares)
                return


def _read_as_numbers(graph: Any) -> None:
    name = graph.input[0].name
    for node in graph.node:
        for place, read in enumerate(node.input):
            if read == name:
                node.input[place] = "numbers"
    graph.input[0].name = "numbers"


def _class_labels(model: Any) -> list[str]:
    """Return the labels that a node of the graph names, in the order of the probabilities."""
    for node in reversed(model.graph.node):
        labels = _labels_of(node)
        if labels:
            return labels
    return []


def _labels_of(node: Any) -> list[str]:
    for attribute in node.attribute:
        if attribute.name.startswith("classlabels_") and len(attribute.strings or attribute.ints):
            return [
                label.decode() if isinstance(label, bytes) else str(label)
                for label in (attribute.strings or attribute.ints)
            ]
    return []


def _element_type(name: str, taken: Any) -> int:
    kind = int(taken.type.tensor_type.elem_type)
    if kind not in CASTS or len(taken.type.tensor_type.shape.dim) != 2:
        raise TrainingError(
            f"{name} takes {taken.name!r}, which is no column of numbers or text: only graphs over "
            "rows of a table can be imported."
        )
    return kind


def _width(taken: Any) -> int:
    """Return how many columns an input takes; 0 where the graph leaves that open."""
    return int(taken.type.tensor_type.shape.dim[1].dim_value)


def _plain(name: str) -> str:
    # Converters give a column a name of their own where its name is no identifier.
    return re.sub(r"\W", "_", name)
