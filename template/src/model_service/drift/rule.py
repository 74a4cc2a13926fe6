"""When a difference from the reference profile is an alarm.

An alarm must be significant and material. The levels of significance follow from the one knob, the
false alarms that a model may raise in a month, for all features and kinds together (Holm); the size
of the window and of the training data enter as noise. What is measured for it is in the template's
docs/benchmarks/monitoring.md.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.drift.counts import Counts, merge
from model_service.registry.profile import FeatureCounts, FeatureProfile, ReferenceProfile

Kind = Literal["distribution", "missing", "unseen", "out_of_range"]
Far = Literal["far"]
FAR: Far = "far"
"""A test of its own, whose alarms are told as `unseen`."""
RATES: tuple[Kind, ...] = ("missing", "unseen", "out_of_range")
MATERIAL: dict[Kind, float] = {
    "distribution": 0.05,
    "missing": 0.01,
    "unseen": 0.005,
    "out_of_range": 0.005,
}
"""The smallest effect that may alarm: a PSI beyond its noise, a rise of a share of the rows."""
FAR_AMONG_UNSEEN = 0.02
"""How many values are far beyond training, for each row of N that theory lets be beyond its largest
value: 0.018 in public tables (benchmarks/monitoring/far_values.py of the template)."""
TESTS_OF_A_FEATURE = 5
"""A kind each, and how many values are far, which tells of `unseen`."""
MERGED_WINDOWS = (1, 2, 4, 16)
"""A small lasting change shows in more windows together before it shows in one."""
WINDOWS_OF_RATES = 2
"""So many together are asked about rates alone, of which a few rows more decide."""
LOOSE_WINDOWS = 3
FEWEST_EXPECTED = 5
WINDOW_ROWS = 500
WINDOWS_A_DAY = 24


class Levels(msgspec.Struct, frozen=True):
    """What p-value alarms: `strict` at once, over all tests of a window together; `loose`, for one
    test, in two windows of three. `loose` holds for windows that are small beside the training
    data; the more they share its noise, the nearer it comes to `strict` (see `loose_at`)."""

    strict: float
    loose: float

    @classmethod
    def for_budget(
        cls, false_alarms_per_month: float, windows_per_month: float, tests: int
    ) -> Levels:
        """Spend half of a window's share of the budget on each of the two ways to alarm.

        Of `tests` tests, the same one is below `loose` in this window and in one of the two before
        with a chance of at most 2 * tests * loose**2.
        """
        budget = min(false_alarms_per_month / windows_per_month, 0.5)
        strict = budget / 2 / len(MERGED_WINDOWS)
        return cls(strict, math.sqrt(budget / 2 / (2 * max(tests, 1))))

    def loose_at(self, shared: float) -> float:
        """Return the loose level where windows share a part of their noise, between 0 and 1.

        Two normal variables of correlation r both exceed z with a chance of about
        P(one does)**(2 / (1 + r)).
        """
        return float(self.loose ** (1 + shared))


class Finding(msgspec.Struct, frozen=True):
    """One kind of change of one feature, over the newest `windows` together.

    `effect` is the PSI less its noise, or the rise of the share of rows; `noise_limit` is what it
    must exceed to be an alarm in this many rows. `p` is the chance of such a difference if nothing
    changed.
    """

    feature: str
    kind: Kind
    effect: float
    noise_limit: float
    p: float
    alarms: bool
    windows: int = 1
    rows: int = 0


def windows_per_month(rows_per_day: float) -> float:
    """Return how many windows close in a month: at 500 rows, not within an hour, at least daily."""
    return 30 * min(WINDOWS_A_DAY, max(1.0, rows_per_day / WINDOW_ROWS))


def examine(
    reference: ReferenceProfile,
    history: Sequence[Counts],
    levels: Levels,
    *,
    ignored: Collection[str] = (),
    output: tuple[str, str] = ("prediction", "score"),
) -> list[Finding]:
    """Hold the newest window of `history` (oldest first) against the reference.

    Returns a finding for every feature and kind: of the merged windows in which it alarms, or else
    of the newest window. `ignored` features may change; `output` are the names of the prediction
    and its score (`registry.profile.output_names`).
    """
    profiles = {**reference.features, output[0]: reference.output}
    if reference.score is not None:
        profiles[output[1]] = reference.score
    profiles = {name: profile for name, profile in profiles.items() if name not in ignored}
    tests = {}
    for windows in MERGED_WINDOWS:
        if windows == 1 or len(history) >= windows:
            merged = merge(history[-windows:])
            made = _tests(reference, profiles, merged)
            if windows == WINDOWS_OF_RATES:
                made = {key: test for key, test in made.items() if key[1] != "distribution"}
            tests[windows] = made
    newest = tests[1]
    alarms: dict[_Key, tuple[int, float]] = {}
    for windows, made in tests.items():
        for key, level in _rejected(made, levels.strict):
            alarms.setdefault(key, (windows, level))
    suspects = [key for key, test in newest.items() if _is_loose(key, test, levels)]
    before = history[-LOOSE_WINDOWS:-1] if suspects else ()
    for made in [_tests(reference, profiles, each) for each in before]:
        for key in suspects:
            if _is_loose(key, made.get(key), levels):
                alarms.setdefault(key, (1, levels.loose_at(newest[key].shared)))
    at_once = (1, levels.strict / max(len(newest), 1))
    found = []
    for feature, kind in newest:
        if kind == FAR:
            continue
        far = kind == "unseen" and (feature, kind) not in alarms and (feature, FAR) in alarms
        of: _Key = (feature, FAR if far else kind)
        windows, level = alarms.get(of, at_once)
        test = tests[windows].get(of, newest[of])
        limit = max(MATERIAL[kind], _noise_limit(test, level))
        told = of in alarms
        found.append(Finding(feature, kind, test.effect, limit, test.p, told, windows, test.rows))
    return found


class _Test(msgspec.Struct):
    """`spread` is by how much the noise of the reference widens that of the window: 1 + n/N;
    of a rate, Beta(`a`, `b`) is the distribution of the share if nothing changed."""

    effect: float
    p: float
    rows: int
    spread: float
    freedom: int = 0
    statistic: float = 0.0
    share: float = 0.0
    a: float = 0.0
    b: float = 0.0

    @property
    def noise(self) -> float:
        """What PSI has without any change: (bins - 1) * (1/n + 1/N)."""
        return self.freedom * self.spread / max(self.rows, 1)

    @property
    def shared(self) -> float:
        """The part of its noise that it shares with other windows: that of the reference."""
        return 1 - 1 / self.spread


_Key = tuple[str, Kind | Far]


def _tests(
    reference: ReferenceProfile, profiles: dict[str, FeatureProfile], counts: Counts
) -> dict[_Key, _Test]:
    found: dict[_Key, _Test] = {}
    for name, profile in profiles.items():
        window = counts.features.get(name)
        if window is None:
            continue
        training, rows = _expected(reference, profile, counts)
        if sum(window.bins) and len(window.bins) > 1:
            found[name, "distribution"] = _distribution(training, window)
        if name not in reference.features:
            continue
        for kind in RATES:
            was, now = getattr(training, kind), getattr(window, kind)
            found[name, kind] = _rate(was, rows, now, counts.rows)
        if profile.low is not None:
            found[name, FAR] = _rate(0, rows, window.far, counts.rows, FAR_AMONG_UNSEEN)
    return found


class _Expected(msgspec.Struct):
    bins: NDArray[np.float64]
    missing: float
    unseen: float
    out_of_range: float


def _expected(
    reference: ReferenceProfile, profile: FeatureProfile, counts: Counts
) -> tuple[_Expected, float]:
    """Return the reference for the hours that the window is from, and how many rows it is worth.

    Blocks of time are weighted as the window has them; so weighted, they are worth the rows that
    have the same variance (Kish's effective sample size).
    """
    whole = profile.counts
    rows: float = reference.rows if profile is not reference.output else sum(whole.bins)
    if not profile.blocks or not counts.blocks or reference.time is None:
        bins = np.array(whole.bins, dtype=np.float64)
        return _Expected(bins, whole.missing, whole.unseen, whole.out_of_range), rows
    asked = sum(counts.blocks.values())
    bins = np.zeros(len(whole.bins))
    rates = dict.fromkeys(RATES, 0.0)
    variance = 0.0
    for block, in_window in counts.blocks.items():
        known = reference.time.rows[block]
        part: FeatureCounts = profile.blocks[block] if known else whole
        weight = in_window / asked / (known or rows)
        bins += weight * np.array(part.bins)
        for kind in RATES:
            rates[kind] += weight * getattr(part, kind)
        variance += (in_window / asked) ** 2 / (known or rows)
    worth = 1 / variance
    # What one row alone has may come at any hour.
    alone = whole.unseen - sum(block.unseen for block in profile.blocks)
    unseen = rates["unseen"] * worth + alone * worth / rows
    return _Expected(
        bins * worth, rates["missing"] * worth, unseen, rates["out_of_range"] * worth
    ), worth


def _distribution(training: _Expected, window: FeatureCounts) -> _Test:
    """Pearson's chi-square over bins pooled to at least 5 expected values, scaled by 1 + n/N."""
    from scipy.special import chdtrc

    was, now = training.bins, np.array(window.bins, dtype=np.float64)
    rows, known = now.sum(), was.sum()
    if known == 0:
        return _Test(0.0, 1.0, int(rows), 1.0)
    was, now = _pooled(was, now, known, rows)
    spread = 1 + rows / known
    if len(was) < 2:
        return _Test(0.0, 1.0, int(rows), spread)
    shares = (was + now) / (known + rows)
    statistic = float((np.square(now - rows * was / known) / (rows * shares)).sum() / spread)
    freedom = len(was) - 1
    test = _Test(0.0, float(chdtrc(freedom, statistic)), int(rows), spread, freedom, statistic)
    new, old = (now + 0.5) / (rows + len(now) / 2), (was + 0.5) / (known + len(was) / 2)
    test.effect = float(((new - old) * np.log(new / old)).sum()) - test.noise
    return test


def _pooled(
    was: NDArray[Any], now: NDArray[Any], known: float, rows: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Put the rarest bins together until each has at least 5 expected values."""
    expected = (was + now) * min(rows, known) / (rows + known)
    order = np.argsort(expected, kind="stable")
    cumulated = np.cumsum(expected[order])
    rare = int(np.searchsorted(expected[order], FEWEST_EXPECTED))
    if rare and cumulated[rare - 1] < FEWEST_EXPECTED:
        rare = min(rare + 1, len(order))
    if rare < 2:
        return was, now
    kept, pool = order[rare:], order[:rare]
    return np.append(was[kept], was[pool].sum()), np.append(now[kept], now[pool].sum())


def _rate(was: float, known: float, now: int, rows: int, more: float = 1.0) -> _Test:
    """A one-sided test of whether a share has risen: `was` of `known` rows, `now` of `rows`.

    The chance is that of the beta-binomial distribution whose share has the distribution
    Beta(was + 1, known - was): after `was` of `known`, so many of the next `rows` (the exact
    prediction for values beyond the largest of training, David and Nagaraja, Order Statistics).
    """
    share = was / known if known else 0.0
    spread = 1 + rows / known if known else 1.0
    test = _Test(0.0, 1.0, rows, spread, share=share, a=was + more, b=max(known - was, 1.0))
    test.effect = now / rows - share if rows else 0.0
    if test.effect > 0:  # without a rise there is nothing to be found
        test.p = _beta_binomial_tail(now, rows, test.a, test.b)
    return test


@functools.lru_cache(maxsize=1024)
def _smallest_count(rows: int, a: float, b: float, level: float) -> int:
    """Return the smallest count that is significant at a level; more than `rows` if none is."""
    too_few, enough = math.ceil(rows * a / (a + b)) - 1, rows + 1
    step = 1
    while too_few + step < enough:  # most often it is near to what is expected
        if _beta_binomial_tail(too_few + step, rows, a, b) <= level:
            enough = too_few + step
        else:
            too_few, step = too_few + step, 2 * step
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if _beta_binomial_tail(middle, rows, a, b) <= level:
            enough = middle
        else:
            too_few = middle
    return enough


def _beta_binomial_tail(at_least: int, rows: int, a: float, b: float) -> float:
    """Return P(X >= at_least) of a beta-binomial distribution, summed until nothing is added."""
    if at_least <= rows * a / (a + b):
        return 1.0
    first = at_least
    log = (
        math.lgamma(rows + 1)
        - math.lgamma(first + 1)
        - math.lgamma(rows - first + 1)
        + math.lgamma(first + a)
        + math.lgamma(rows - first + b)
        - math.lgamma(rows + a + b)
        + math.lgamma(a + b)
        - math.lgamma(a)
        - math.lgamma(b)
    )
    # Far beyond what is expected, whatever is added is nothing.
    last = min(rows, first + 100 + int(20 * math.sqrt(rows * a * (a + b + rows)) / (a + b)))
    k = np.arange(first, last, dtype=np.float64)
    ratios = (rows - k) / (k + 1) * (k + a) / (rows - k - 1 + b)
    return min(1.0, math.exp(log) * (1.0 + float(np.cumprod(ratios).sum())))


def _rejected(tests: dict[_Key, _Test], level: float) -> list[tuple[_Key, float]]:
    """Return the material tests that Holm's procedure rejects at a level for all together, each
    with its own level."""
    found = []
    for place, (key, test) in enumerate(sorted(tests.items(), key=lambda item: item[1].p)):
        own = level / (len(tests) - place)
        if test.p > own:
            break
        if test.effect >= _material(key):
            found.append((key, own))
    return found


def _is_loose(key: _Key, test: _Test | None, levels: Levels) -> bool:
    if test is None or test.effect < _material(key):
        return False
    return test.p <= levels.loose_at(test.shared)


def _material(key: _Key) -> float:
    return MATERIAL["unseen" if key[1] == FAR else key[1]]


def _noise_limit(test: _Test, level: float) -> float:
    """Return the largest effect that is not significant at a level; of a distribution as nearly as
    PSI is Pearson's chi-square, and less than an effect that is significant."""
    from scipy.special import chdtri

    if not test.rows or not (test.freedom or test.b):
        return math.inf
    if test.freedom:
        critical = float(chdtri(test.freedom, level))
        limit = critical * test.spread / test.rows - test.noise
        return min(limit, test.effect * critical / test.statistic) if test.p <= level else limit
    return (_smallest_count(test.rows, test.a, test.b, level) - 1) / test.rows - test.share
