"""What `features()` returns, as the blocks and tables that models take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Inputs = Mapping[str, NDArray[Any]]


class InputError(Exception):
    """`features()` returned something that no model takes; says what."""


class InputLayout(msgspec.Struct, frozen=True):
    """The order of a model's inputs: columns of numbers, and columns of text.

    An input of shape (rows, k) is k columns of numbers, `name_0` to `name_{k-1}`.
    """

    numbers: tuple[str, ...]
    text: tuple[str, ...]

    def blocks(self, inputs: Inputs) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return the numbers, float32 of shape (rows, numbers), and the text, objects.

        Raises:
            InputError: an input of the layout is not among `inputs`.
            ValueError: `inputs` has one that the layout does not have.
        """
        rows = len(next(iter(inputs.values())))
        numbers = np.empty((rows, len(self.numbers)), dtype=np.float32)
        text = np.empty((rows, len(self.text)), dtype=object)
        number = word = 0
        for name, array in inputs.items():
            if array.dtype == object:
                text[:, _place(self.text, word, name)] = array
                word += 1
            elif array.ndim == 1:
                numbers[:, _place(self.numbers, number, name)] = array
                number += 1
            else:
                first = _place(self.numbers, number, f"{name}_0")
                numbers[:, first : first + array.shape[1]] = array
                number += array.shape[1]
        if number != len(self.numbers) or word != len(self.text):
            raise InputError("features() returned fewer inputs than it did in training.")
        return numbers, text

    def frame(self, inputs: Inputs) -> pd.DataFrame:
        """Return the inputs as a table, numbers as float64 and text as objects."""
        import pandas as pd

        columns = dict(_columns(inputs))
        table = {name: columns[name] for name in (*self.numbers, *self.text)}
        return pd.DataFrame(table)


def layout_of(inputs: Inputs) -> InputLayout:
    """Return the layout of what `features()` returned.

    Raises:
        InputError: it is no mapping of arrays of numbers or text with a value for every row.
    """
    check_inputs(inputs)
    columns = dict(_columns(inputs))
    return InputLayout(
        tuple(name for name, column in columns.items() if column.dtype != object),
        tuple(name for name, column in columns.items() if column.dtype == object),
    )


def check_inputs(inputs: object, rows: int | None = None) -> None:
    """Check that `features()` returned arrays of numbers or text, with `rows` rows each.

    Raises:
        InputError: it did not; the text names the input and the cure.
    """
    if not isinstance(inputs, Mapping) or not inputs:
        raise InputError(
            "features() must return a mapping from names to arrays, and not an empty one."
        )
    for name, array in inputs.items():
        if not isinstance(array, np.ndarray) or array.ndim not in (1, 2):
            raise InputError(f"features() returned {name!r} that is no array with a value per row.")
        if array.dtype.kind == "U":
            raise InputError(
                f"features() returned {name!r} as fixed-length text: add .astype(object)."
            )
        if array.dtype.kind not in "biufO" or (array.dtype == object and array.ndim == 2):
            raise InputError(
                f"features() returned {name!r} as {array.dtype}: turn it into numbers or strings."
            )
        if rows is not None and len(array) != rows:
            raise InputError(
                f"features() returned {len(array)} values of {name!r} for {rows} rows."
            )


def _place(names: tuple[str, ...], guess: int, name: str) -> int:
    """Return where a name stands; nearly always at the guess, for functions keep their order."""
    return guess if guess < len(names) and names[guess] == name else names.index(name)


def _columns(inputs: Inputs) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, array in inputs.items():
        if array.ndim == 2:
            for index in range(array.shape[1]):
                yield f"{name}_{index}", array[:, index].astype(np.float64)
        elif array.dtype == object:
            yield name, array
        else:
            yield name, array.astype(np.float64)
