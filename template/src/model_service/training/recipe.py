"""What `train.py` in a model's folder says: the data, the split, the estimator, the gates."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from model_service.contract.contract import Contract
from model_service.training.gate import CLASS_METRICS, NUMBER_METRICS, Gate

if TYPE_CHECKING:
    import pandas as pd

Split = Callable[["pd.DataFrame", int], tuple["pd.DataFrame", "pd.DataFrame"]]
HELD_OUT_SHARE = 0.25


class TrainingError(Exception):
    """Why no version was written; says what to change."""


class Recipe(msgspec.Struct, frozen=True):
    """The functions and gates of a model's `train.py`.

    `time` names the column of `load()` that says when a row happened; daily and weekly rhythm is
    learned from it.
    """

    load: Callable[[], Any]
    split: Split
    build: Callable[[int], Any]
    gates: Sequence[Gate]
    time: str | None = None


def read_recipe(folder: Path, contract: Contract) -> Recipe:
    """Run `train.py` of a model's folder and take its parts.

    Raises:
        TrainingError: a file or a part of it is missing, fails, or asks for an unknown metric.
    """
    module = _run(folder / "train.py", f"models_{contract.name}_train")
    for needed in ("load", "build"):
        if not callable(getattr(module, needed, None)):
            raise TrainingError(f"{folder / 'train.py'} has no function {needed}().")
    split = getattr(module, "split", None) or _random_split(contract)
    gates = _gates(folder, module, contract)
    return Recipe(module.load, split, module.build, gates, getattr(module, "TIME", None))


def gates_of(folder: Path, contract: Contract) -> Sequence[Gate]:
    """Return the gates of a model's `train.py`; none if it has no such file.

    Raises:
        TrainingError: the file fails, or its gates are wrong.
    """
    path = folder / "train.py"
    if not path.is_file():
        return ()
    return _gates(folder, _run(path, f"models_{contract.name}_train"), contract)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise TrainingError(
            f"{path} is not there. `new` shows what a model's folder has."
        ) from None


def _run(path: Path, name: str) -> Any:
    module: Any = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        exec(compile(_bytes_of(path), str(path), "exec"), module.__dict__)  # noqa: S102 - the team's
    except TrainingError:
        raise
    except (Exception, SystemExit) as error:
        raise TrainingError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    finally:
        # Nothing of it can be found where a version is served: a pickle of it must fail here.
        del sys.modules[name]
    return module


def _gates(folder: Path, module: Any, contract: Contract) -> Sequence[Gate]:
    gates: Sequence[Gate] = getattr(module, "GATES", ())
    known = CLASS_METRICS if contract.output.type == "class" else NUMBER_METRICS
    if not gates or not isinstance(gates, Sequence):
        raise TrainingError(
            f"{folder / 'train.py'} has no GATES: a version that need not be good will not be. "
            f'Write for instance GATES = [Gate("{known[0]}", better_than_baseline_by=0.1)].'
        )
    for gate in gates:
        if not isinstance(gate, Gate):
            raise TrainingError(f"{folder / 'train.py'}: GATES has {gate!r}, which is no Gate.")
        if gate.metric not in known:
            raise TrainingError(
                f"{folder / 'train.py'}: {gate.metric!r} is no metric of a {contract.output.type}. "
                f"Metrics: {', '.join(known)}."
            )
        if not gate.demand:
            raise TrainingError(f"{folder / 'train.py'}: the gate {gate.metric} demands nothing.")
    return gates


def _random_split(contract: Contract) -> Split:
    def split(data: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        from sklearn.model_selection import train_test_split

        target = data[contract.output.name]
        enough = contract.output.type == "class" and target.value_counts().min() >= 2
        try:
            training, held_out = train_test_split(
                data,
                test_size=HELD_OUT_SHARE,
                random_state=seed,
                stratify=target if enough else None,
            )
        except ValueError as error:
            raise TrainingError(f"{len(data)} rows cannot be split: {error}") from error
        return training, held_out

    return split
