"""The frozen `features.py` of a version, run from the bytes whose digest was checked."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from model_service.registry.inputs import Inputs

Features = Callable[[Mapping[str, NDArray[Any]]], Inputs]


class FeatureCodeError(Exception):
    """A `features.py` that cannot be run; says why."""


def features_of(source: bytes, name: str, path: str) -> Features:
    """Return the function `features` of a module's source.

    `name` must be unique in the process, so that two versions never share a module. A function
    whose parameter is annotated as a pandas DataFrame gets one instead of the columns.

    Raises:
        FeatureCodeError: the module fails, or has no function `features`.
    """
    module = types.ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    try:
        exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 - its digest was checked
    except (Exception, SystemExit) as error:
        raise FeatureCodeError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    function = getattr(module, "features", None)
    if not callable(function):
        raise FeatureCodeError(f"{path} has no function features(columns).")
    return _with_frame(function) if wants_frame(function) else function


def wants_frame(function: Callable[..., Any]) -> bool:
    """Whether `features()` asks for a pandas DataFrame by the annotation of its parameter."""
    parameters = list(inspect.signature(function).parameters.values())
    return bool(parameters) and "DataFrame" in str(parameters[0].annotation)


def _with_frame(function: Callable[..., Any]) -> Features:
    import pandas as pd

    def features(columns: Mapping[str, NDArray[Any]]) -> Inputs:
        table = pd.DataFrame({name: list(c) if c.ndim == 2 else c for name, c in columns.items()})
        answer = function(table)
        return {
            str(name): answer[name].to_numpy(dtype=object)
            if answer[name].dtype.kind not in "biuf"
            else answer[name].to_numpy()
            for name in answer
        }

    return features
