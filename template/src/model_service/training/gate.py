"""Gates: what a version must reach on held-out rows before it is written."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from model_service.registry.manifest import SMALLER_IS_BETTER, GateOutcome

CLASS_METRICS = ("accuracy", "macro_f1", "log_loss", "roc_auc")
NUMBER_METRICS = ("mae", "rmse", "r2")


class Gate(msgspec.Struct, frozen=True):
    """A demand on one metric; several bounds in one gate must all hold.

    `better_than_baseline_by` is a distance in the metric's own unit from the baseline, which always
    answers the most frequent class or the mean.
    """

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    better_than_baseline_by: float | None = None

    @property
    def demand(self) -> str:
        """The demand in words."""
        words = []
        if self.at_least is not None:
            words.append(f"at least {self.at_least:g}")
        if self.at_most is not None:
            words.append(f"at most {self.at_most:g}")
        if self.better_than_baseline_by is not None:
            words.append(f"better than the baseline by {self.better_than_baseline_by:g}")
        return " and ".join(words)

    def outcome(self, metrics: Mapping[str, float], baseline: Mapping[str, float]) -> GateOutcome:
        """Hold the measured metric against the demand; NaN meets nothing."""
        measured = metrics[self.metric]
        met = measured == measured
        if self.at_least is not None:
            met &= measured >= self.at_least
        if self.at_most is not None:
            met &= measured <= self.at_most
        if self.better_than_baseline_by is not None:
            gain = measured - baseline[self.metric]
            gain = -gain if self.metric in SMALLER_IS_BETTER else gain
            met &= gain >= self.better_than_baseline_by
        floor = self._floor(baseline[self.metric])
        return GateOutcome(self.metric, self.demand, measured, bool(met), floor)

    def _floor(self, baseline: float) -> float | None:
        """Return the worst value that meets every bound on the bad side; None without one."""
        smaller = self.metric in SMALLER_IS_BETTER
        bounds = [self.at_most if smaller else self.at_least]
        if self.better_than_baseline_by is not None:
            gain = self.better_than_baseline_by
            bounds.append(baseline - gain if smaller else baseline + gain)
        known = [bound for bound in bounds if bound is not None]
        return (min(known) if smaller else max(known)) if known else None
