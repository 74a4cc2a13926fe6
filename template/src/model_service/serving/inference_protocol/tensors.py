"""Tensors as the protocol sends them: JSON lists or little-endian bytes, to values and back."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from model_service.contract.contract import Feature
from model_service.serving.inference_protocol.messages import InputTensor, OutputTensor
from model_service.serving.problems import ProblemError

NUMBER_TYPES: dict[str, str] = {
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
}
_DATATYPE_OF = {"integer": "INT64", "number": "FP64", "vector": "FP64", "boolean": "BOOL"}
_LENGTH = struct.Struct("<I")


def datatype_of(feature_type: str) -> str:
    """Return the datatype that a feature's tensor is described with."""
    return _DATATYPE_OF.get(feature_type, "BYTES")


def shape_of(feature: Feature) -> list[int]:
    """Return the described shape: any number of rows, and the elements of a vector."""
    return [-1, feature.length or 0] if feature.type == "vector" else [-1]


def column_of(tensor: InputTensor, feature: Feature, binary: bytes | None) -> list[Any]:
    """Return a value for each row, None where it is missing; the contract looks at the values.

    Raises:
        ProblemError: the tensor's datatype, shape and data do not fit each other or the feature.
    """
    name = feature.name
    expected = datatype_of(feature.type)
    numeric = expected not in ("BOOL", "BYTES")
    if tensor.datatype not in NUMBER_TYPES if numeric else tensor.datatype != expected:
        raise _fault(name, f"the datatype {tensor.datatype} does not fit; send {expected}")
    width = (feature.length or 1) if feature.type == "vector" else 1
    rows = _rows_of(tensor, feature, width)
    if binary is None:
        values = _flattened(tensor, depth=len(tensor.shape))
    else:
        values = _values_of_bytes(tensor.datatype, binary, name, rows * width)
    if len(values) != rows * width:
        raise _fault(name, f"{len(values)} values were sent for the shape {tensor.shape}")
    column: list[Any] = values
    if feature.type == "vector":
        column = [values[at : at + width] for at in range(0, len(values), width)]
        column = [None if all(v is None for v in vector) else vector for vector in column]
    for row in _missing(tensor, rows):
        column[row] = None
    return column


def encoded(tensor: OutputTensor) -> tuple[OutputTensor, bytes]:
    """Return a tensor without its data, and the data as bytes."""
    if tensor.datatype == "BYTES":
        texts = [text.encode() for text in tensor.data or ()]
        content = b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    else:
        content = np.asarray(tensor.data, dtype=NUMBER_TYPES[tensor.datatype]).tobytes()
    size = {"binary_data_size": len(content)}
    return msgspec.structs.replace(tensor, data=msgspec.UNSET, parameters=size), content


def _fault(name: str, problem: str) -> ProblemError:
    return ProblemError("invalid-request", f"Input {name!r}: {problem}.")


def _rows_of(tensor: InputTensor, feature: Feature, width: int) -> int:
    shape = tensor.shape
    fits = len(shape) == 2 and shape[1] == width
    if feature.type != "vector":
        fits = fits or len(shape) == 1
    if not fits:
        described = shape_of(feature)
        raise _fault(feature.name, f"the shape {shape} does not fit; send {described}")
    return shape[0]


def _flattened(tensor: InputTensor, depth: int) -> list[Any]:
    """Return the elements of flat or nested data, row by row."""
    if not isinstance(tensor.data, list):
        raise _fault(tensor.name, 'there is no "data", or it is no list')
    values: list[Any] = tensor.data
    for _ in range(depth - 1):
        if values and all(isinstance(value, list) for value in values):
            values = [element for value in values for element in value]
    return values


def _values_of_bytes(datatype: str, content: bytes, name: str, count: int) -> list[Any]:
    if datatype == "BYTES":
        return _texts_of(content, name)
    element = np.dtype("?" if datatype == "BOOL" else NUMBER_TYPES[datatype])
    if len(content) != count * element.itemsize:
        raise _fault(name, f"{len(content)} bytes are not {count} values of {datatype}")
    array = np.frombuffer(content, element)
    if datatype.startswith("FP"):
        # No value of a contract is NaN: in bytes it can only stand for "missing".
        return [None if value != value else value for value in array.tolist()]
    return list(array.tolist())


def _texts_of(content: bytes, name: str) -> list[str]:
    texts = []
    at = 0
    while at < len(content):
        start = at + _LENGTH.size
        length = _LENGTH.unpack_from(content, at)[0] if start <= len(content) else len(content)
        at = start + length
        if at > len(content):
            raise _fault(name, "its bytes end in the middle of a text")
        try:
            texts.append(content[start:at].decode())
        except UnicodeDecodeError:
            raise _fault(name, "its bytes are not UTF-8") from None
    return texts


def _missing(tensor: InputTensor, rows: int) -> Sequence[int]:
    stated = tensor.parameters.get("missing", "")
    try:
        missing = [int(part) for part in str(stated).split(",") if part.strip()]
    except ValueError:
        missing = [-1]
    if any(not 0 <= row < rows for row in missing):
        raise _fault(
            tensor.name, f'the parameter "missing" names rows from 0 to {rows - 1}, such as "0,2"'
        )
    return missing
