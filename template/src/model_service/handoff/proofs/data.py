"""Features: that dirty values are answered, and that serving computes what training computed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from model_service.contract.contract import Feature
from model_service.contract.examples import example_rows
from model_service.drift.blind_spots import blind_features
from model_service.drift.counts import Counter
from model_service.drift.rule import TESTS_OF_A_FEATURE, Levels, examine, windows_per_month
from model_service.handoff.expectation import (
    ABSENT,
    answered_rows,
    check_answer,
    check_policy,
    with_value,
)
from model_service.handoff.outcome import SkippedError, UnmetError, proves
from model_service.handoff.proofs.model_tests import models_tested
from model_service.handoff.subject import Subject
from model_service.model_settings import read_model_settings
from model_service.registry.loaded_version import LoadedVersion, ModelError
from model_service.registry.profile import PROFILE, ProfileMismatchError, read_profile

FEATURE_SHARE = 0.25
"""Of the promised latency, for computing features of one row."""
ROWS_OF_A_WINDOW = 500
NEW_CATEGORY = "a category that nobody has seen"
UNKNOWN = frozenset({"", "?", "todo", "tbd", "unknown"})


@proves("DAT-1")
def features_are_described(subject: Subject) -> str:
    """Look through every feature of every contract."""
    count = 0
    for model, contract in subject.contracts.items():
        for feature in contract.features:
            lacking = next(_lacking(feature), None)
            if lacking:
                raise UnmetError(f"models/{model}/contract.yaml: features.{feature.name} {lacking}")
            count += 1
    return f"{count} features are described"


def _lacking(feature: Feature) -> Iterator[str]:
    if not feature.description.strip():
        yield "has no description"
    if feature.type in ("integer", "number", "vector"):
        if feature.unit is None:
            yield 'has no unit ("1" for a number without one)'
        if feature.minimum is None and feature.maximum is None:
            yield "has no limits"
    if feature.type == "string" and feature.max_length is None:
        yield "has no max_length"
    source = feature.source
    if source is None or source.system.casefold() in UNKNOWN:
        yield "does not say which system it comes from"
    elif source.owner.casefold() in UNKNOWN:
        yield "does not say who would announce its removal"


@proves("DAT-2")
def new_categories_are_answered(subject: Subject) -> str:
    """Send a category that nobody has seen for each feature that has categories."""
    tried = 0
    for model, contract in subject.served.items():
        row: dict[str, Any] = dict(example_rows(contract)[0])
        features = [f for f in contract.features if f.type == "category"]
        rows = [with_value(row, f.name, NEW_CATEGORY) for f in features]
        answers = answered_rows(
            subject.service.predict(model, [*rows, row]), f"{model}, dirty rows"
        )
        for feature, answer in zip(features, answers, strict=False):
            what = f"{model}: a new category of {feature.name}"
            check_policy(answer, feature.name, feature.on_unknown, "unknown_category", what)
            tried += 1
        check_answer(contract, answers[-1], f"{model}, the clean row beside them")
    return f"{tried} features with categories were tried"


@proves("DAT-3")
def missing_values_are_answered(subject: Subject) -> str:
    """Send every feature as null, absent and (if it is text) empty."""
    tried = 0
    for model, contract in subject.served.items():
        row: dict[str, Any] = dict(example_rows(contract)[0])
        cases = [
            (feature, name, with_value(row, feature.name, value))
            for feature in contract.features
            for name, value in (("null", None), ("absent", ABSENT), ("empty", ""))
            if name != "empty" or feature.is_text
        ]
        sent = [*(case[2] for case in cases), row]
        answers = answered_rows(subject.service.predict(model, sent), f"{model}, dirty rows")
        for (feature, name, _), answer in zip(cases, answers, strict=False):
            what = f"{model}: {feature.name} {name}"
            check_policy(answer, feature.name, feature.on_missing, "missing", what)
            tried += 1
        check_answer(contract, answers[-1], f"{model}, the clean row beside them")
    return f"{tried} ways to be missing were tried"


@proves("DAT-4")
def tests_run_the_feature_code(subject: Subject) -> str:
    """Run the tests of each model, and see that the frozen features() was called by them."""
    tested = models_tested(subject)
    for model in subject.contracts:
        if not tested.feature_calls.get(model):
            raise UnmetError(f"no test in models/{model}/tests runs the features() that is served")
    return tested.line


@proves("DAT-5")
def features_do_not_depend_on_the_batch(subject: Subject) -> str:
    """Compute features of the golden rows together, as training does, and one by one from JSON, as
    a request does."""
    rows = 0
    for model, champion in subject.champions.items():
        raw = [golden.row for golden in champion.golden]
        together = _features(champion, champion.reader.read_rows(raw).values)
        for index, row in enumerate(raw):
            body = msgspec.json.encode({"rows": [row]})
            alone = _features(champion, champion.reader.read_body(body)[0].values)
            for name, column in together.items():
                if not _same(column[index : index + 1], alone[name]):
                    raise UnmetError(f"{model}: {name} of golden row {index} differs when alone")
            rows += 1
    return f"features of {rows} rows are the same together and alone"


def _features(champion: LoadedVersion, values: Any) -> dict[str, Any]:
    try:
        return dict(champion.features(values))
    except ModelError as error:
        raise UnmetError(f"{champion.model}: {error}") from None


def _same(one: Any, other: Any) -> bool:
    if one.dtype.kind == "f":
        return bool(np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True))
    return bool(np.array_equal(one, other))


@proves("DAT-6")
def drift_is_measured_against_the_profile(subject: Subject) -> str:
    """Hold one golden row, as if callers sent nothing else, against the profile of each champion:
    the rule must alarm. No important feature may be a blind spot."""
    for model, champion in subject.champions.items():
        if PROFILE not in champion.manifest.files:
            raise UnmetError(f"{model} {champion.version} has no reference profile")
        folder = subject.registry.folder(model, champion.version)
        try:
            profile = read_profile(folder)
        except ProfileMismatchError as error:
            raise UnmetError(f"{model} {champion.version}: {error}") from None
        names = champion.contract.feature_names
        important = read_model_settings(subject.repository, model).important_features or names
        lacking = sorted({*names, *important} - set(profile.features))
        if lacking:
            raise UnmetError(f"the reference profile of {model} has no {lacking[0]}")
        if blind := [name for name in blind_features(folder) or () if name in important]:
            raise UnmetError(
                f"{model} {champion.version} is blind for {blind[0]}, see its card.md: say in "
                f"models/{model}/model.yaml what traffic comes and train again, or which features "
                "are important"
            )
        read = champion.reader.read_rows([champion.golden[0].row] * ROWS_OF_A_WINDOW)
        answers = champion.predict(read.values)
        window = Counter(champion.contract, profile).count(
            read.values, [()] * len(read.values), answers
        )
        budget = subject.settings.monitoring.false_alarms_per_month
        tests = TESTS_OF_A_FEATURE * len(profile.features)
        levels = Levels.for_budget(budget, windows_per_month(1000), tests)
        try:
            found = examine(profile, [window], levels)
        except ImportError as error:
            raise SkippedError(f"drift cannot be measured here: {error}") from None
        if not any(finding.alarms for finding in found):
            raise UnmetError(f"{model}: the same row {ROWS_OF_A_WINDOW} times raises no alarm")
    return f"drift of {len(subject.champions)} champions is found by their profiles"


@proves("DAT-7")
def features_are_cheap(subject: Subject) -> str:
    """Time the features of single rows; whether they are there in time, backend signs."""
    budget = subject.settings.slo.latency_milliseconds * FEATURE_SHARE / 1000
    slowest = 0.0
    for model, champion in subject.champions.items():
        values = champion.reader.read_rows([golden.row for golden in champion.golden]).values
        _features(champion, values[:1])
        times = []
        for value in values[:20]:
            begun = time.perf_counter()
            _features(champion, [value])
            times.append(time.perf_counter() - begun)
        median = sorted(times)[len(times) // 2]
        slowest = max(slowest, median)
        if median > budget:
            raise UnmetError(
                f"{model}: features() of one row takes {median * 1000:.1f} ms, a quarter of the "
                f"promised latency is {budget * 1000:.1f}"
            )
    return f"features() of one row takes {slowest * 1000:.2f} ms of {budget * 1000:g}"
