"""How good a version is: its answers for held-out rows against what was true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Contract
from model_service.drift.quality import metrics
from model_service.registry.loaded_version import Predictions


def metrics_of(contract: Contract, answers: Predictions, truth: Sequence[Any]) -> dict[str, float]:
    """Return the metrics of answers, the same that are measured once a version serves."""
    return metrics(contract, answers.values, answers.probabilities, truth)


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
