"""What `train` writes, what it refuses, and that it says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from model_service.registry.loaded_version import load_version
from model_service.registry.manifest import VersionError, read_manifest
from model_service.registry.profile import read_profile
from model_service.registry.registry import LAST, Registry
from model_service.registry.traffic import read_traffic
from model_service.training import TrainedVersion, TrainingError, train
from tests.platform.training.small_repository import (
    CONTRACT,
    NAME,
    TRAIN,
    make_repository,
    with_estimator,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from model_service.repository import Repository

LEARNS_A_RULE = """
class Rule(BaseEstimator, ClassifierMixin):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return self.classes_[(np.asarray(X["length"]) > 85).astype(int)]

    def predict_proba(self, X):
        pear = (np.asarray(X["length"]) > 85).astype(float)
        return np.column_stack([1 - pear, pear])
"""
RULE_IMPORTS = "import numpy as np\nfrom sklearn.base import BaseEstimator, ClassifierMixin\n"


def versions_of(repository: Repository) -> list[str]:
    return Registry(repository.root / "registry").versions(NAME)


def refusal(repository: Repository, **options: bool) -> str:
    with pytest.raises(TrainingError) as refused:
        train(repository, NAME, **options)  # type: ignore[arg-type]
    assert versions_of(repository) == []
    assert read_traffic(repository.traffic).models == {}
    return str(refused.value)


def lines_of(trained: TrainedVersion) -> Sequence[str]:
    return (trained.folder / "golden.jsonl").read_text().splitlines()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedVersion:
    return train(make_repository(tmp_path_factory.mktemp("trained")), NAME)


def test_a_version_has_everything_that_is_known_of_it(trained: TrainedVersion) -> None:
    manifest = read_manifest(trained.folder)
    assert (manifest.model, manifest.version, manifest.format) == (NAME, "1", "onnx")
    assert manifest.classes == ("apple", "pear")
    assert manifest.rows == {"training": 120, "held_out": 40}
    assert set(manifest.metrics) == {"accuracy", "macro_f1", "log_loss", "roc_auc"}
    assert manifest.metrics["accuracy"] > manifest.baseline["accuracy"] + 0.1
    assert all(gate.met for gate in manifest.gates)
    assert manifest.parity is not None
    assert manifest.parity.largest_difference <= 1
    assert {"python", "numpy", "scikit-learn", "onnxruntime"} <= set(manifest.libraries)
    written = {path.name for path in trained.folder.iterdir()}
    assert written == {*manifest.files, "manifest.json", "manifest.sha256"}
    assert "card.md" in written


def test_golden_predictions_have_clean_rows_and_a_dirty_one_for_each_policy(
    trained: TrainedVersion,
) -> None:
    golden = [json.loads(line) for line in lines_of(trained)]
    warnings = {tuple(warning) for each in golden for warning in each["warnings"]}
    assert warnings >= {
        ("weight", "missing", "impute"),
        ("weight", "out_of_range", "clip"),
        ("colour", "missing", "pass"),
        ("colour", "unknown_category", "pass"),
    }
    assert sum(not each["warnings"] for each in golden) > 20


def test_the_profile_counts_what_training_saw(trained: TrainedVersion) -> None:
    profile = read_profile(trained.folder)
    assert profile.rows == 120
    assert profile.features["weight"].counts.missing > 0
    assert profile.features["length"].counts.missing == 0
    assert sum(profile.features["length"].counts.bins) == 120
    assert profile.features["colour"].categories == ("green", "red")


def test_the_profile_has_answers_to_rows_that_were_held_out(trained: TrainedVersion) -> None:
    profile = read_profile(trained.folder)
    assert profile.score is not None
    assert sum(profile.output.counts.bins) == sum(profile.score.counts.bins) == 40


def test_the_card_has_the_numbers(trained: TrainedVersion) -> None:
    card = (trained.folder / "card.md").read_text()
    assert f"{trained.metrics['accuracy']:.4g}" in card
    assert "clip" in card


def test_the_same_data_and_seed_give_the_same_predictions(tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    first, second = train(repository, NAME, seed=3), train(repository, NAME, seed=3)
    other = train(repository, NAME, seed=4)
    assert (first.version, second.version) == ("1", "2")
    assert lines_of(first) == lines_of(second)
    assert lines_of(first) != lines_of(other)
    prints = [read_manifest(each.folder).data_sha256 for each in (first, second)]
    assert prints[0] == prints[1]


def test_an_estimator_without_a_seed_gives_the_same_predictions_too(tmp_path: Path) -> None:
    forest = "make_pipeline(columns, RandomForestClassifier(5))"
    imports = "from sklearn.ensemble import RandomForestClassifier"
    repository = make_repository(tmp_path, train=with_estimator(forest, imports=imports))
    assert lines_of(train(repository, NAME)) == lines_of(train(repository, NAME))


def test_only_the_first_version_becomes_champion_by_itself(tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    train(repository, NAME)
    train(repository, NAME)
    entry = read_traffic(repository.traffic).models[NAME]
    assert (entry.champion, len(entry.history)) == ("1", 1)


def test_a_last_number_that_is_none_is_told(tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    last = repository.root / "registry" / NAME / LAST
    last.parent.mkdir(parents=True)
    last.write_text("<<<<<<< HEAD\n")
    with pytest.raises(VersionError, match="Write the largest into it"):
        train(repository, NAME)
    last.write_text("7\n")
    (repository.model_folder(NAME) / "card.md").write_bytes(b"\xff")  # is no reason not to train
    assert train(repository, NAME).version == "8"


def test_editing_the_folder_changes_no_version(tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    version = train(repository, NAME)
    (repository.model_folder(NAME) / "features.py").write_text("def features(c): return c\n")
    (repository.model_folder(NAME) / "contract.yaml").write_text("name: other\n")
    assert load_version(version.folder).replay_golden() == []


def test_loading_an_onnx_version_imports_no_library_for_training(trained: TrainedVersion) -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from model_service.registry.loaded_version import load_version; "
        f"assert load_version(Path({str(trained.folder)!r})).replay_golden() == []; "
        "print(*{'pandas', 'sklearn', 'scipy', 'onnx', 'skops'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ('Gate("accuracy", at_least=0.9999)', "at least 0.9999"),
        ('Gate("log_loss", at_most=0.0001)', "at most 0.0001"),
        ('Gate("log_loss", better_than_baseline_by=0.69)', "better than the baseline by 0.69"),
    ],
)
def test_a_missed_gate_writes_no_version_and_tells_the_figure(
    tmp_path: Path, gate: str, said: str
) -> None:
    start, _, rest = TRAIN.partition("GATES = ")
    source = start + f"GATES = [{gate}]\n" + rest.partition("\n")[2]
    text = refusal(make_repository(tmp_path, train=source))
    assert said in text
    assert "the baseline has" in text


def test_a_gate_on_a_metric_that_there_is_not_is_refused(tmp_path: Path) -> None:
    source = TRAIN.replace('Gate("accuracy", ', 'Gate("acuracy", ')
    assert "'acuracy' is no metric" in refusal(make_repository(tmp_path, train=source))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": f"{TRAIN}\nraise SystemExit\n"}, "train.py cannot be run: SystemExit"),
        ({"train": f"{TRAIN}\ndef load():\n    exit(3)\n"}, "raised SystemExit: 3"),
        ({"train": f"{TRAIN}\ndef split(data, seed):\n    exit(3)\n"}, "SystemExit: 3"),
        ({"train": f"{TRAIN}\ndef build(seed):\n    exit(3)\n"}, "cannot be fitted: SystemExit: 3"),
        ({"features": "exit(3)\n"}, "features.py cannot be run: SystemExit: 3"),
        ({"features": "def features(c):\n    exit(3)\n"}, "features() raised SystemExit: 3"),
        ({"train": f"{TRAIN}\nGATES = 0.9\n"}, "has no GATES"),
    ],
)
def test_code_that_ends_the_process_is_no_training_that_went_well(
    tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    assert said in refusal(make_repository(tmp_path, **changes))


def test_classes_must_be_those_of_the_contract(tmp_path: Path) -> None:
    quince = CONTRACT.replace("[pear, apple]", "[pear, apple, quince]")
    assert "no row has the class 'quince'" in refusal(make_repository(tmp_path, contract=quince))


def test_a_split_that_leaves_a_class_out_is_refused(tmp_path: Path) -> None:
    one_class = "from sklearn.dummy import DummyClassifier"
    source = with_estimator("DummyClassifier()", imports=one_class) + (
        "\n\ndef split(data, seed):\n"
        "    return data[data.kind == 'pear'], data[data.kind == 'apple']\n"
    )
    text = refusal(make_repository(tmp_path, train=source))
    assert "learned the classes pear; the contract has pear, apple" in text


def test_rows_that_the_contract_refuses_are_named(tmp_path: Path) -> None:
    repository = make_repository(tmp_path, contract=CONTRACT.replace("maximum: 300", "maximum: 99"))
    text = refusal(repository)
    assert "length" in text
    assert "out_of_range" in text


def test_a_value_that_the_contract_passes_and_the_model_cannot_take_is_refused(
    tmp_path: Path,
) -> None:
    passing = CONTRACT.replace("on_missing: {impute: 150}", "on_missing: pass")
    complete = TRAIN.replace('"data.csv")', '"data.csv").dropna()')
    text = refusal(make_repository(tmp_path, contract=passing, train=complete))
    assert "The contract accepts a row that the model cannot answer" in text
    assert "'weight': None" in text


def test_features_that_look_at_other_rows_are_refused(tmp_path: Path) -> None:
    source = "def features(c):\n    return {**c, 'density': c['weight'] / c['length'].mean()}\n"
    text = refusal(make_repository(tmp_path, features=source))
    assert "depend on itself alone" in text


def test_an_estimator_that_does_not_convert_is_served_from_skops(tmp_path: Path) -> None:
    imports = "from sklearn.model_selection import FixedThresholdClassifier\n"
    estimator = "make_pipeline(columns, FixedThresholdClassifier(LogisticRegression()))"
    repository = make_repository(tmp_path, train=with_estimator(estimator, imports=imports))
    said: list[str] = []
    version = train(repository, NAME, report=said.append)
    assert version.format == "skops"
    assert any(line.startswith("not ONNX: ") for line in said)
    assert load_version(version.folder).replay_golden() == []


def test_onnx_that_disagrees_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from model_service.registry.model_format import OnnxModel

    honest = OnnxModel.predict
    monkeypatch.setattr(OnnxModel, "predict", lambda self, inputs: honest(self, inputs) + 0.001)
    said: list[str] = []
    version = train(make_repository(tmp_path), NAME, report=said.append)
    assert version.format == "skops"
    assert any("answers differ" in line for line in said)


def test_an_estimator_of_ones_own_is_refused_even_as_a_pickle_that_could_not_be_loaded(
    tmp_path: Path,
) -> None:
    source = with_estimator("Rule()", imports=RULE_IMPORTS + LEARNS_A_RULE)
    repository = make_repository(tmp_path, train=source)
    assert "--allow-pickle" in refusal(repository)
    assert "installed package" in refusal(repository, allow_pickle=True)


def test_a_pickle_must_be_allowed_and_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "fruit_rules.py").write_text(RULE_IMPORTS + LEARNS_A_RULE)
    monkeypatch.syspath_prepend(tmp_path / "package")
    source = with_estimator("Rule()", imports="from fruit_rules import Rule")
    repository = make_repository(tmp_path / "repository", train=source)
    assert "fruit_rules.Rule" in refusal(repository)
    version = train(repository, NAME, allow_pickle=True)
    manifest = read_manifest(version.folder)
    assert (manifest.format, manifest.pickle) == ("joblib", True)
    loaded = load_version(version.folder)
    assert loaded.replay_golden() == []
    assert not loaded.runs_inline


@pytest.mark.parametrize("name", ["numbers", "text", "numbers:0", "with space", "größe"])
def test_a_feature_may_have_any_name(tmp_path: Path, name: str) -> None:
    repository = make_repository(
        tmp_path,
        contract=CONTRACT.replace("colour:", f'"{name}":').replace("weight:", '"label":'),
        features="def features(columns): return columns\n",
        train=TRAIN.replace('["colour"]', f"[{name!r}]")
        .replace('["weight", "length", "density"]', '["length", "label"]')
        .replace(
            '"data.csv")', f'"data.csv").rename(columns={{"colour": {name!r}, "weight": "label"}})'
        ),
    )
    version = train(repository, NAME)
    assert version.format == "onnx"
    assert json.loads(lines_of(version)[0])["row"].keys() == {name, "label", "length"}
