"""How good a version is: its answers for held-out rows against what was true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Contract
from model_service.registry.loaded_version import Predictions


def metrics_of(contract: Contract, answers: Predictions, truth: Sequence[Any]) -> dict[str, float]:
    """Return the metrics of answers, as scikit-learn defines them.

    Of a class: accuracy, macro_f1, log_loss, and roc_auc where there are two classes. Of numbers
    and vectors: mae, rmse (in the output's unit) and r2.
    """
    from sklearn import metrics

    if contract.output.type != "class" or answers.probabilities is None:
        actual = np.asarray(truth, dtype=np.float64)
        predicted = np.asarray(answers.values, dtype=np.float64)
        found = {
            "mae": float(metrics.mean_absolute_error(actual, predicted)),
            "rmse": float(metrics.root_mean_squared_error(actual, predicted)),
        }
        if len(actual) > 1:
            found["r2"] = float(metrics.r2_score(actual, predicted))
        return found
    classes = list(contract.output.classes)
    shares = answers.probabilities.astype(np.float64)
    # float32 probabilities do not add up to one in float64.
    shares = shares / shares.sum(axis=1, keepdims=True)
    places = [classes.index(label) for label in truth]
    found = {
        "accuracy": float(metrics.accuracy_score(truth, answers.values)),
        "macro_f1": float(metrics.f1_score(truth, answers.values, average="macro")),
        "log_loss": float(metrics.log_loss(places, shares, labels=list(range(len(classes))))),
    }
    if len(classes) == 2 and len(set(places)) == 2:
        found["roc_auc"] = float(metrics.roc_auc_score(places, shares[:, 1]))
    return found


def baseline_of(
    contract: Contract, training_truth: Sequence[Any], truth: Sequence[Any]
) -> dict[str, float]:
    """Return the metrics of always answering what was most frequent, or the mean, in training."""
    if contract.output.type != "class":
        mean = np.mean(np.asarray(training_truth, dtype=np.float64), axis=0)
        return metrics_of(contract, Predictions([mean.tolist()] * len(truth)), truth)
    classes = contract.output.classes
    counts = np.array([sum(label == name for label in training_truth) for name in classes])
    shares: NDArray[Any] = np.tile(counts / counts.sum(), (len(truth), 1))
    most = classes[int(np.argmax(counts))]
    return metrics_of(contract, Predictions([most] * len(truth), shares), truth)
