"""How good a model is, measured again, and that its card says so."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import model_service
from model_service.contract.contract import Contract
from model_service.handoff.outcome import SkippedError, StaleError, UnmetError, proves
from model_service.handoff.proofs.model_tests import models_tested
from model_service.handoff.scratch import link_repository
from model_service.handoff.subject import Subject
from model_service.model_settings import read_model_settings
from model_service.registry.golden import GOLDEN
from model_service.registry.loaded_version import LoadedVersion, ModelError

FEWEST_TESTS = 3
FEWEST_ROWS_OF_A_SLICE = 10
SECTIONS = ("What it is for", "What it is not for", "Cost of a wrong answer")
PLACEHOLDER = re.compile(r"\b(TODO|TBD)\b|…|\?\?|<[a-z ]+>")


class HeldOut(msgspec.Struct, frozen=True):
    """The champion's answers for the rows that its training held out."""

    rows: list[dict[str, Any]]
    truth: list[Any]
    answers: Any
    training_truth: list[Any]


@proves("MOD-1")
def the_baseline_is_beaten(subject: Subject) -> str:
    """Let each champion answer the rows that were held out again, and hold it against its gates."""
    from model_service.training.evaluation import baseline_of, metrics_of
    from model_service.training.recipe import read_recipe

    shown = []
    for model, champion in subject.champions.items():
        held = _held_out(subject, model, champion)
        metrics = metrics_of(champion.contract, held.answers, held.truth)
        baseline = baseline_of(champion.contract, held.training_truth, held.truth)
        gates = read_recipe(subject.repository.model_folder(model), champion.contract).gates
        if not any(gate.better_than_baseline_by for gate in gates):
            raise UnmetError(f"models/{model}/train.py: no gate demands to beat the baseline")
        for gate in gates:
            outcome = gate.outcome(metrics, baseline)
            if not outcome.met:
                measured = f"{gate.metric} is {outcome.measured:.4g} now"
                raise UnmetError(f"{model} {champion.version}: {measured}, asked is {gate.demand}")
        metric = gates[0].metric
        shown.append(f"{model} {metric} {metrics[metric]:.3g} (baseline {baseline[metric]:.3g})")
    return ", ".join(shown)


def _held_out(subject: Subject, model: str, champion: LoadedVersion) -> HeldOut:
    """Split the data as training did; a champion that was packaged or imported has no such rows."""
    from model_service.contract.table import rows_of
    from model_service.training.recipe import TrainingError, read_recipe
    from model_service.training.version_writing import truth_of

    folder = subject.repository.model_folder(model)
    if not (folder / "train.py").is_file():
        raise SkippedError(f"{model} has no train.py: its quality cannot be measured again here")
    contract = champion.contract
    try:
        recipe = read_recipe(folder, contract)
        training, held_out = recipe.split(recipe.load(), champion.manifest.seed)
        truths = [
            truth_of(contract, part[contract.output.name].tolist()) for part in (training, held_out)
        ]
        rows = rows_of(held_out, contract)
        read = champion.reader.read_rows(rows)
        answers = champion.predict(read.values)
    except (TrainingError, ModelError) as error:
        raise UnmetError(f"{model}: {error}") from None
    kept = list(read.positions)
    return HeldOut([rows[i] for i in kept], [truths[1][i] for i in kept], answers, truths[0])


@proves("MOD-2")
def no_slice_is_worse_off(subject: Subject) -> str:
    """Compare the mean error of each slice with that of all rows: no slice may have more than twice
    the error of all and lie three standard errors above it."""
    slices = 0
    for model, champion in subject.champions.items():
        held = _held_out(subject, model, champion)
        errors = _errors(champion.contract, held)
        names = read_model_settings(subject.repository, model).slices or tuple(
            f.name for f in champion.contract.features if f.type in ("category", "boolean")
        )
        for name, value, inside in _slices(names, held.rows):
            mean, worst = errors.mean(), errors[inside].mean()
            noise = 3 * errors.std() / math.sqrt(len(inside))
            if worst > 2 * mean and worst - mean > noise:
                raise UnmetError(
                    f"{model}: where {name} is {value} the mean error is {worst:.3g} "
                    f"({len(inside)} rows), {mean:.3g} elsewhere"
                )
            slices += 1
    return f"{slices} slices of the held-out rows are as good as the rest"


def _errors(contract: Contract, held: HeldOut) -> Any:
    if contract.output.type == "class":
        pairs = zip(held.answers.values, held.truth, strict=True)
        return np.array([float(answer != truth) for answer, truth in pairs])
    apart = np.abs(np.asarray(held.answers.values, float) - np.asarray(held.truth, float))
    return apart.reshape(len(held.truth), -1).mean(axis=1)


def _slices(
    names: tuple[str, ...], rows: list[dict[str, Any]]
) -> Iterator[tuple[str, str, list[int]]]:
    for name in names:
        members: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            members.setdefault(str(row.get(name)), []).append(index)
        for value, inside in members.items():
            if FEWEST_ROWS_OF_A_SLICE <= len(inside) < len(rows):
                yield name, value, inside


@proves("MOD-3")
def behaviour_is_tested(subject: Subject) -> str:
    """Run the tests of each model, and count those that are marked as tests of behaviour."""
    tested = models_tested(subject)
    for model in subject.contracts:
        count = tested.behaviour.get(model, 0)
        if count < FEWEST_TESTS:
            raise UnmetError(
                f"models/{model}/tests: {count} tests of behaviour pass, {FEWEST_TESTS} are asked "
                "(pytest.mark.behaviour)"
            )
    return ", ".join(f"{model}: {count}" for model, count in tested.behaviour.items())


@proves("MOD-4")
def answers_are_numerically_stable(subject: Subject) -> str:
    """Answer the golden rows together, backwards and one by one."""
    rows = 0
    for model, champion in subject.champions.items():
        values = champion.reader.read_rows([golden.row for golden in champion.golden]).values
        together = _numbers(champion, values)
        backwards = _numbers(champion, values[::-1])[::-1]
        alone = np.concatenate([_numbers(champion, [value]) for value in values])
        if not np.isfinite(together).all():
            raise UnmetError(f"{model} answers NaN or infinity")
        for other, what in ((backwards, "in another order"), (alone, "alone")):
            apart = ~np.isclose(together, other, rtol=1e-5, atol=1e-6).all(axis=1)
            if apart.any():
                raise UnmetError(
                    f"{model}: golden row {apart.argmax()} is answered otherwise {what}"
                )
        low, high = champion.contract.output.minimum, champion.contract.output.maximum
        beyond = (together < (-np.inf if low is None else low)) | (
            together > (np.inf if high is None else high)
        )
        if champion.contract.output.type != "class" and beyond.any():
            raise UnmetError(f"{model} answers {together[beyond][0]:g}, out of the promised range")
        rows += len(values)
    return f"{rows} rows are answered the same in any order and number"


def _numbers(champion: LoadedVersion, values: Any) -> Any:
    try:
        answers = champion.predict(values)
    except ModelError as error:
        raise UnmetError(f"{champion.model}: {error}") from None
    numbers = answers.values if answers.probabilities is None else answers.probabilities
    return np.asarray(numbers, float).reshape(len(values), -1)


@proves("MOD-5")
def the_card_is_true(subject: Subject) -> str:
    """Compare the card of each champion with its manifest, and its words with those of today."""
    for model, champion in subject.champions.items():
        folder = subject.registry.folder(model, champion.version)
        card = (folder / "card.md").read_text(encoding="utf-8")
        for name, value in champion.manifest.metrics.items():
            if f"| {name} | {value:.4g} | {champion.manifest.baseline[name]:.4g} |" not in card:
                raise UnmetError(f"the card of {model} {champion.version} has another {name}")
        words = _words(subject, model)
        if words.strip() not in card:
            raise StaleError(f"models/{model}/card.md was edited after version {champion.version}")
    return f"the cards of {len(subject.champions)} champions have the numbers of their manifests"


@proves("MOD-6")
def the_card_says_what_it_is_for(subject: Subject) -> str:
    """Look for the sections that product signs, and for words in them."""
    scaffold = Path(model_service.__file__).parent / "scaffold" / "card.md"
    unwritten = _sections(scaffold.read_text(encoding="utf-8"))
    for model in subject.contracts:
        sections = _sections(_words(subject, model))
        for name in SECTIONS:
            text = sections.get(name, "")
            if len(text.split()) < 3 or PLACEHOLDER.search(text) or text == unwritten[name]:
                raise UnmetError(f"models/{model}/card.md: “{name}” is not filled in")
    return "every card says what its model is for, not for, and what an error costs"


def _sections(words: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", words, flags=re.MULTILINE)
    return {name.strip(): text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _words(subject: Subject, model: str) -> str:
    path = subject.repository.model_folder(model) / "card.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


@proves("MOD-7")
def training_can_be_repeated(subject: Subject) -> str:
    """Train each model twice, away from the registry, and compare every golden prediction."""
    for model in subject.contracts:
        folder = subject.folder(f"training-{model}")
        link_repository(subject.root, folder)
        for _ in range(2):
            ran = subject.run_service_command(folder, "train", model)
            if ran.returncode:
                raise UnmetError(f"train {model}: {ran.stdout.strip().splitlines()[-1]}")
        first, second = ((folder / "registry" / model / n / GOLDEN).read_bytes() for n in "12")
        if first != second:
            raise UnmetError(f"{model}: two trainings with the same seed answer differently")
    return f"{len(subject.contracts)} models trained twice give the same golden predictions"
