"""The ML Test Score (Breck et al., 2017), as far as items of the checklist prove its 28 tests."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from model_service.handoff.outcome import Result

SECTIONS = {
    "D": "Features and data",
    "M": "Model development",
    "I": "Infrastructure",
    "O": "Monitoring",
}
# A test without an item is one that no item proves: it earns nothing here.
TESTS: dict[str, tuple[str, str]] = {
    "D1": ("Feature expectations are captured in a schema", "DAT-1"),
    "D2": ("All features are beneficial", ""),
    "D3": ("No feature costs too much", "DAT-7"),
    "D4": ("Features adhere to meta-level requirements", ""),
    "D5": ("The data pipeline has privacy controls", "SEC-3"),
    "D6": ("New features can be added quickly", "CON-2"),
    "D7": ("All feature code is tested", "DAT-4"),
    "M1": ("Model specifications are reviewed and submitted", "OWN-1"),
    "M2": ("Offline and online metrics correlate", ""),
    "M3": ("All hyperparameters are tuned", ""),
    "M4": ("The impact of staleness is known", "LIF-1"),
    "M5": ("A simpler model is not better", "MOD-1"),
    "M6": ("Quality is sufficient on important slices", "MOD-2"),
    "M7": ("The model was tested for inclusion", ""),
    "I1": ("Training is reproducible", "MOD-7"),
    "I2": ("Model specifications are unit tested", "MOD-3"),
    "I3": ("The whole pipeline is integration tested", "SRV-1"),
    "I4": ("Quality is validated before serving", "REL-1"),
    "I5": ("A single example can be debugged", "OPS-3"),
    "I6": ("Models are tested by a canary", "REL-6"),
    "I7": ("Models can be rolled back", "REL-2"),
    "O1": ("Changes of dependencies are announced", "DAT-8"),
    "O2": ("Data invariants hold in training and serving", "CON-8"),
    "O3": ("Training and serving are not skewed", "DAT-5"),
    "O4": ("Models are not too stale", "LIF-1"),
    "O5": ("The model is numerically stable", "MOD-4"),
    "O6": ("Speed and memory have not regressed", "SRV-3"),
    "O7": ("Prediction quality has not regressed", "OBS-5"),
}


class MlTest(msgspec.Struct, frozen=True):
    """One test of the 28: 1 point if a machine proves it each time, 0.5 if people signed it."""

    id: str
    title: str
    item: str
    points: float


class MlTestScore(msgspec.Struct, frozen=True):
    """The points by section; the score is the lowest of the four, of at most 7."""

    tests: tuple[MlTest, ...]
    sections: dict[str, float]

    @property
    def score(self) -> float:
        """The lowest of the sections."""
        return min(self.sections.values())


def ml_test_score(results: Sequence[Result]) -> MlTestScore:
    """Give points for the items that pass."""
    passed = {result.item.id: result.item for result in results if result.state == "pass"}
    tests = []
    for id_, (title, item) in TESTS.items():
        points = 0.0 if item not in passed else 0.5 if passed[item].kind == "sign-off" else 1.0
        tests.append(MlTest(id_, title, item, points))
    sections = {
        name: sum(test.points for test in tests if test.id.startswith(letter))
        for letter, name in SECTIONS.items()
    }
    return MlTestScore(tuple(tests), sections)
