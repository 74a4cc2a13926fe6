"""How good answers were, with intervals once the truth is known, and as an estimate before.

The estimate (CBPE) turns each score into the probability of being right, as it was on held-out rows
of training. It sees that rows became harder. It cannot see that the same row now means something
else (concept drift): only the truth shows that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Contract
from model_service.registry.profile import Calibration

NORMAL_QUANTILE = 1.959964
"""Of a two-sided interval of 95 %."""
RESAMPLES = 400
Array = NDArray[np.float64]


class Measured(msgspec.Struct, frozen=True):
    """A metric and its interval of 95 %, from so many `rows`."""

    value: float
    low: float
    high: float
    rows: int


def metrics(
    contract: Contract, values: Sequence[Any], probabilities: Any, truth: Sequence[Any]
) -> dict[str, float]:
    """Return the metrics of answers, as scikit-learn defines them.

    Of a class: accuracy, macro_f1, log_loss, and roc_auc where there are two classes. Of numbers
    and vectors: mae, rmse (in the output's unit) and r2. `probabilities` are of shape
    (rows, classes) in the contract's order.
    """
    if contract.output.type != "class" or probabilities is None:
        actual, predicted = _numbers(truth), _numbers(values)
        found = {name: metric(actual, predicted) for name, metric in _OF_NUMBERS.items()}
        return found if len(actual) > 1 else {n: v for n, v in found.items() if n != "r2"}
    actual, chosen = _places(contract, truth), _places(contract, values)
    shares = _shares(probabilities)
    found = {
        "accuracy": float((actual == chosen).mean()),
        "macro_f1": _macro_f1(actual, chosen),
        "log_loss": float(_losses(actual, shares).mean()),
    }
    if shares.shape[1] == 2 and 0 < actual.sum() < len(actual):
        found["roc_auc"] = expected_auc(shares[:, 1], actual)
    return found


def measured(
    contract: Contract, values: Sequence[Any], probabilities: Any, truth: Sequence[Any]
) -> dict[str, Measured]:
    """Return the metrics of answers with intervals of 95 %.

    accuracy: Wilson (1927). roc_auc: Hanley and McNeil (1982). log_loss and mae: normal, for a
    mean. The others: percentiles of resampled rows (Efron, 1979), seeded.
    """
    found = metrics(contract, values, probabilities, truth)
    rows = len(truth)
    intervals: dict[str, tuple[float, float]] = {}
    if "accuracy" in found:
        actual, chosen = _places(contract, truth), _places(contract, values)
        intervals["accuracy"] = wilson(found["accuracy"], rows)
        intervals["log_loss"] = _of_mean(_losses(actual, _shares(probabilities)))
        intervals["macro_f1"] = _resampled(_macro_f1, actual, chosen)
        if "roc_auc" in found:
            error = _auc_error(found["roc_auc"], actual.sum(), rows - actual.sum())
            intervals["roc_auc"] = _clipped(found["roc_auc"], error)
    else:
        actual, predicted = _numbers(truth), _numbers(values)
        intervals["mae"] = _of_mean(np.abs(actual - predicted).mean(axis=1))
        for name in ("rmse", "r2"):
            intervals[name] = _resampled(_OF_NUMBERS[name], actual, predicted)
    return {name: Measured(value, *intervals[name], rows) for name, value in found.items()}


def calibration_of(
    contract: Contract, values: Sequence[Any], probabilities: Any, truth: Sequence[Any]
) -> Calibration | None:
    """Return what a score is worth on rows held out of training; None without scores or truth.

    The share of the second of two classes, or of right answers among more, made to rise with the
    score (isotonic regression).
    """
    if contract.output.type != "class" or probabilities is None or not len(truth):
        return None
    from sklearn.isotonic import IsotonicRegression

    actual, chosen = _places(contract, truth), _places(contract, values)
    scores, happened = _scores(chosen, _shares(probabilities)), actual
    if len(contract.output.classes) != 2:
        happened = (actual == chosen).astype(np.float64)
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, happened)
    return Calibration(
        len(actual),
        tuple(fitted.X_thresholds_.tolist()),
        tuple(fitted.y_thresholds_.tolist()),
        int(happened.sum()),
    )


def estimated(
    contract: Contract, calibration: Calibration, values: Sequence[Any], probabilities: Any
) -> dict[str, Measured]:
    """Estimate accuracy, and roc_auc of two classes, of answers whose truth is not known yet.

    The interval counts the luck of these rows and of those that the calibration is from.
    """
    chosen, shares = _places(contract, values), _shares(probabilities)
    scores = _scores(chosen, shares)
    worth = np.interp(scores, calibration.scores, calibration.shares)
    rows, known = len(worth), calibration.rows
    two = len(contract.output.classes) == 2
    accuracy = float(np.where(chosen == 1, worth, 1 - worth).mean() if two else worth.mean())
    interval = wilson(accuracy, 1 / (1 / rows + 1 / known))
    found = {"accuracy": Measured(accuracy, *interval, rows)}
    if two and 0 < worth.sum() < rows and 0 < calibration.happened < known:
        auc = expected_auc(scores, worth)
        error = math.hypot(
            _auc_error(auc, float(worth.sum()), rows - float(worth.sum())),
            _auc_error(auc, calibration.happened, known - calibration.happened),
        )
        found["roc_auc"] = Measured(auc, *_clipped(auc, error), rows)
    return found


def wilson(share: float, rows: float) -> tuple[float, float]:
    """Return the interval of 95 % of a share of `rows` (Wilson, 1927)."""
    z2 = NORMAL_QUANTILE**2
    middle = (share + z2 / 2 / rows) / (1 + z2 / rows)
    half = NORMAL_QUANTILE * math.sqrt(share * (1 - share) / rows + z2 / 4 / rows**2)
    half /= 1 + z2 / rows
    return max(0.0, middle - half), min(1.0, middle + half)


def expected_auc(scores: Array, chances: Array) -> float:
    """Return the chance that a row of the second class has the higher score, half for equal ones.

    `chances` are each row's probability of that class; with 0 and 1 it is the AUC itself.
    """
    order = np.argsort(scores, kind="stable")
    _, group = np.unique(scores[order], return_inverse=True)
    positive = np.bincount(group, chances[order])
    negative = np.bincount(group, 1 - chances[order])
    below = np.cumsum(negative) - negative
    # A row makes no pair with itself.
    own = np.bincount(group, chances[order] * (1 - chances[order]))
    pairs = float(chances.sum() * (1 - chances).sum() - own.sum())
    return float((positive * (below + negative / 2)).sum() - own.sum() / 2) / pairs


def _auc_error(auc: float, positive: float, negative: float) -> float:
    """Return the standard error of an AUC (Hanley and McNeil, Radiology 143, 1982)."""
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positive - 1) * (first - auc**2)
    spread += (negative - 1) * (second - auc**2)
    return math.sqrt(max(spread, 0.0) / (positive * negative))


def _clipped(value: float, error: float) -> tuple[float, float]:
    half = NORMAL_QUANTILE * error
    return max(0.0, value - half), min(1.0, value + half)


def _of_mean(values: Array) -> tuple[float, float]:
    if len(values) < 2:
        return -math.inf, math.inf
    half = NORMAL_QUANTILE * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def _resampled(
    metric: Callable[[Array, Array], float], actual: Array, predicted: Array
) -> tuple[float, float]:
    chance = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        rows = chance.integers(0, len(actual), len(actual))
        found.append(metric(actual[rows], predicted[rows]))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def _macro_f1(actual: Array, chosen: Array) -> float:
    scores = []
    for place in np.union1d(actual, chosen):
        both = ((actual == place) & (chosen == place)).sum()
        scores.append(2 * both / ((actual == place).sum() + (chosen == place).sum()))
    return float(np.mean(scores))


def _losses(actual: Array, shares: Array) -> Array:
    own = shares[np.arange(len(actual)), actual.astype(int)]
    losses: Array = -np.log(np.clip(own, np.finfo(np.float64).eps, 1))
    return losses


def _mae(actual: Array, predicted: Array) -> float:
    return float(np.abs(actual - predicted).mean())


def _rmse(actual: Array, predicted: Array) -> float:
    return float(np.sqrt(np.square(actual - predicted).mean(axis=0)).mean())


def _r2(actual: Array, predicted: Array) -> float:
    left = np.square(actual - predicted).sum(axis=0)
    total = np.square(actual - actual.mean(axis=0)).sum(axis=0)
    constant = np.where(left == 0, 1.0, 0.0)
    return float(np.where(total > 0, 1 - left / np.where(total > 0, total, 1), constant).mean())


_OF_NUMBERS: Mapping[str, Callable[[Array, Array], float]] = {
    "mae": _mae,
    "rmse": _rmse,
    "r2": _r2,
}


def _numbers(values: Sequence[Any]) -> Array:
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)


def _places(contract: Contract, labels: Sequence[Any]) -> Array:
    places = {label: place for place, label in enumerate(contract.output.classes)}
    return np.array([places[str(label)] for label in labels], dtype=np.float64)


def _shares(probabilities: Any) -> Array:
    # float32 probabilities do not add up to one in float64.
    shares = np.asarray(probabilities, dtype=np.float64)
    whole: Array = shares / shares.sum(axis=1, keepdims=True)
    return whole


def _scores(chosen: Array, shares: Array) -> Array:
    if shares.shape[1] == 2:
        return shares[:, 1]
    scores: Array = shares[np.arange(len(chosen)), chosen.astype(int)]
    return scores
