"""Every test that a generated repository ships is seen failing: each defect turns its test red."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.service.scratch_service import make_service, seal_again

if TYPE_CHECKING:
    from pathlib import Path

RULES = "src/model_service/contract/value_check.py"
ROWS = "src/model_service/contract/rows.py"
DOCUMENT = "src/model_service/contract/openapi.py"
SERVED = "src/model_service/serving/prediction.py"
MADE = "src/model_service/serving/row_answers.py"
VERSION = "registry/every_type/1"
FEATURES = f"{VERSION}/features.py"
TENSORS = "src/model_service/serving/inference_protocol/inference.py"
DIRT = "test_a_dirty_value_gets_an_answer_or_a_reason[every_type-1-{}]"
GOLDEN = "test_the_golden_predictions_are_answered_as_they_were"
CHECKED = "if value is None or (value"


@dataclass(frozen=True)
class Defect:
    """An edit of one file (the text `before` becomes `after`), and the test that must notice."""

    what: str
    path: str
    before: str
    after: str
    noticed_by: str

    @property
    def test(self) -> str:
        """The test as pytest names it; where no case is named, the one of `every_type`."""
        return self.noticed_by if "[" in self.noticed_by else f"{self.noticed_by}[every_type-1]"


def of_values(what: str, after: str, feature: str) -> Defect:
    """Let the platform treat some values wrongly, before any of its checks."""
    return Defect(what, RULES, CHECKED, f"{after}\n    {CHECKED}", DIRT.format(feature))


DEFECTS = [
    of_values(
        "a new category is an error 500",
        'if feature.name == "place" and value not in feature.categories: raise KeyError(value)',
        "place-new_category",
    ),
    Defect(
        "a new category is answered without a warning",
        RULES,
        'warnings.append(RowWarning(feature.name, "unknown_category"',
        '[].append(RowWarning(feature.name, "unknown_category"',
        DIRT.format("kind-new_category"),
    ),
    Defect(
        "null is treated as rejected, whatever the policy",
        RULES,
        'if policy.action == "reject":\n        raise _refusal(\n            feature, "missing"',
        'if True:\n        raise _refusal(\n            feature, "missing"',
        DIRT.format("amount-null"),
    ),
    of_values(
        "absent is taken as zero",
        "value = 0.0 if value is None and feature.name == 'open' else value",
        "open-absent",
    ),
    of_values(
        '"" is taken as missing',
        'value = None if value == "" and feature.name == "flag" else value',
        "flag-empty_string",
    ),
    of_values(
        "a list is taken by its first element",
        "value = value[0] if isinstance(value, list) and len(value) == 1 else value",
        "open-wrong_type",
    ),
    of_values("true is 1", "value = 1 if value is True else value", "count-true_for_a_number"),
    of_values(
        '"3" is 3',
        'value = int(value) if feature.name == "count" and isinstance(value, str) else value',
        "count-string_for_a_number",
    ),
    of_values(
        "decimals are cut off",
        'value = int(value) if feature.type == "integer" and isinstance(value, float) else value',
        "count-decimals",
    ),
    Defect(
        "clipping is forgotten",
        RULES,
        'if policy.action == "clip":',
        'if policy.action == "clip" and feature.name != "amount":',
        DIRT.format("amount-out_of_range"),
    ),
    Defect(
        "a vector of any length is taken",
        RULES,
        "if len(value) != feature.length:",
        "if False:",
        DIRT.format("shape-wrong_length"),
    ),
    Defect(
        "an infinite number is taken",
        RULES,
        "if not math.isfinite(number):",
        "if False:",
        DIRT.format("open-huge_number"),
    ),
    Defect(
        "an extra field is swallowed",
        ROWS,
        "self._check_names(row, warnings, faults)",
        "",
        "test_an_extra_field_is_treated_as_the_contract_says",
    ),
    Defect(
        "a pointer leads to another row",
        SERVED,
        'f"/rows/{position}{f.pointer}"',
        'f"/rows/0{f.pointer}"',
        "test_a_bad_row_costs_its_neighbours_nothing",
    ),
    Defect(
        "a bad row takes its neighbours down",
        SERVED,
        "if not read.values:",
        "if read.faults:",
        "test_a_bad_row_costs_its_neighbours_nothing",
    ),
    Defect(
        "a clean row is answered with a warning",
        SERVED,
        "    rows: list[Any] = answers.rows\n",
        "    rows: list[Any] = answers.rows\n"
        "    from model_service.contract.rows import RowWarning\n    for row in rows:\n"
        '        row.warnings = (RowWarning("amount", "missing", "pass", "?"),)\n',
        "test_a_clean_row_is_answered_without_a_warning",
    ),
    Defect(
        "NaN is read as null",
        ROWS,
        "        if self._strict_body is not None:",
        '        body = body.replace(b"NaN", b"null")\n        if self._strict_body is not None:',
        "test_a_number_that_is_not_json_is_refused[every_type-1-NaN]",
    ),
    Defect(
        "no rows are an answer",
        ROWS,
        "if count == 0:",
        "if False:",
        "test_a_body_without_rows_is_refused_in_the_shape_of_all_errors[every_type-1-no_rows]",
    ),
    Defect(
        "the limit of rows is not kept",
        ROWS,
        "if count > self.rows_limit:",
        "if count > 9999:",
        "test_ten_thousand_rows_are_answered_and_one_more_than_the_limit_is_refused",
    ),
    Defect(
        "the model's answers drifted from its golden predictions",
        f"{VERSION}/golden.jsonl",
        '"probabilities":{"low":',
        '"probabilities":{"low":1',
        GOLDEN,
    ),
    Defect(
        "serving answers something else than the version does",
        MADE,
        "*probabilities.T.tolist()",
        "*(probabilities[:1].repeat(len(ids), 0)).T.tolist()",
        "test_the_service_answers_the_golden_rows_as_they_were",
    ),
    Defect(
        "features look at the mean of the batch",
        FEATURES,
        "/ 100}",
        "/ 100 - np.stack(numbers, axis=1).mean(axis=0) / 200}",
        "test_the_size_of_the_batch_changes_no_answer",
    ),
    Defect(
        "features are scaled by the batch",
        FEATURES,
        "/ 100}",
        "/ (1 + np.abs(np.stack(numbers, axis=1)).max(axis=0))}",
        "test_dirty_neighbours_change_no_answer",
    ),
    Defect(
        "features depend on the row before",
        FEATURES,
        "/ 100}",
        "/ 100 + np.arange(len(numbers[0]))[:, None] / 50}",
        "test_the_order_of_the_rows_changes_no_answer",
    ),
    Defect(
        "features of one row are not those of many",
        FEATURES,
        "/ 100}",
        "/ (100 if len(numbers[0]) > 1 else 101)}",
        "test_training_and_serving_compute_the_same_features",
    ),
    Defect(
        "an example of the contract is wrong",
        f"{VERSION}/contract.yaml",
        "{type: number}",
        "{type: number, example: 3, on_missing: reject}\n  later: {type: number}",
        "test_every_example_of_the_contract_is_answered",
    ),
    Defect(
        "the document breaks the rules of OpenAPI",
        DOCUMENT,
        '"tags": [name]',
        '"tags": name',
        "test_the_openapi_document_is_valid[every_type-stub]",
    ),
    Defect(
        "answers lack what is documented",
        SERVED,
        "encoded = _encode(answer)",
        'encoded = _encode({"rows": rows})',
        "test_every_documented_example_is_answered_as_documented[every_type-service]",
    ),
    Defect(
        "errors are not as documented",
        "src/model_service/serving/problems.py",
        "title, self.status, self.detail",
        "title, str(self.status), self.detail",
        "test_errors_and_dirty_rows_are_answered_as_documented[every_type-stub-body0]",
    ),
    Defect(
        "a documented answer has another shape",
        "src/model_service/contract/openapi_examples.py",
        '"value": answer.value}',
        '"values": answer.value}',
        "test_every_documented_answer_has_the_documented_shape[every_type-service]",
    ),
    Defect(
        "the stub promises another limit of rows than the service keeps",
        "src/model_service/serving/documents.py",
        "rows_limit=settings.limits.rows_per_request",
        "rows_limit=7 if settings.server.stub else 8",
        "test_the_stub_promises_what_the_service_keeps",
    ),
    Defect(
        "tensors hold the probabilities of other rows",
        TENSORS,
        "in_order([one for one in shares if",
        "in_order([one for one in shares[::-1] if",
        "test_the_golden_rows_are_answered_the_same_as_tensors",
    ),
    Defect(
        "an alias is no version in an address",
        "src/model_service/serving/inference_protocol/endpoint.py",
        "(?P<version>{_NAME})",
        "(?P<version>[0-9]+)",
        "test_the_champion_answers_by_its_alias_and_without_a_version[every_type-1-alias]",
    ),
    Defect(
        "the bytes of tensors come in another order than their heads",
        TENSORS,
        "contents.append(content)",
        "contents.insert(0, content)",
        "test_tritonclient_gets_what_the_version_predicts[every_type/versions/champion-binary]",
    ),
    Defect(
        "metadata leave out a feature",
        TENSORS,
        "for f in contract.features]",
        "for f in contract.features[1:]]",
        "test_metadata_name_every_feature_and_output",
    ),
    Defect(
        "a contract in models/ is broken",
        "models/every_type/contract.yaml",
        "type: boolean",
        "type: bolean",
        "test_every_contract_reads_without_a_fault[every_type]",
    ),
]
# Those of single values concern only their own test each: they are planted together.
TOGETHER = [defect for defect in DEFECTS if defect.path == RULES]
PLANTED = [TOGETHER, *([defect] for defect in DEFECTS if defect.path != RULES)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service without a defect."""
    return make_service(tmp_path_factory.mktemp("sound") / "service")


def outcomes(service: Path, tests: list[str]) -> dict[str, str]:
    """Run these generated tests and return the outcome of each by its name."""
    return outcomes_in(printed_by(service, tests))


def printed_by(service: Path, tests: list[str]) -> str:
    """Run these generated tests and return what pytest printed."""
    nodes = [f"tests/{_file_of(service, test)}::{test}" for test in tests]
    options = ["-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "-rA", "-q"]
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            "config/pytest.ini",
            "--rootdir",
            ".",
            *options,
            *nodes,
        ],
        cwd=service,
        env=os.environ | {"PYTHONPATH": "src", "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout + ran.stderr


def outcomes_in(printed: str) -> dict[str, str]:
    """The outcome of each test by its name, from the summary that pytest prints with -rA."""
    found = re.findall(r"^(PASSED|FAILED|ERROR) [^:]+::(\S+)", printed, re.MULTILINE)
    assert found, printed[-3000:]
    return {name: outcome for outcome, name in found}


def _file_of(service: Path, test: str) -> str:
    function = f"def {test.partition('[')[0]}("
    files = sorted((service / "tests").glob("test_*.py"))
    return next(path.name for path in files if function in path.read_text(encoding="utf-8"))


def plant(service: Path, defect: Defect) -> None:
    """Edit the service; a version that is edited is sealed again, so that its digests agree."""
    path = service / defect.path
    text = path.read_text(encoding="utf-8")
    assert defect.before in text, f"{defect.path} has no {defect.before!r} any more"
    path.unlink()  # files of a version are read-only, and may be shared with the sound service
    path.write_text(text.replace(defect.before, defect.after), encoding="utf-8")
    if defect.path.startswith("registry/"):
        seal_again(service / VERSION)


def test_without_a_defect_every_one_of_these_tests_passes(sound: Path) -> None:
    tests = sorted({defect.test for defect in DEFECTS})
    assert outcomes(sound, tests) == dict.fromkeys(tests, "PASSED")


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted[0].what.replace(" ", "_"))
def test_a_planted_defect_is_noticed(sound: Path, tmp_path: Path, planted: list[Defect]) -> None:
    service = tmp_path / "service"
    shutil.copytree(sound, service)
    for defect in planted:
        plant(service, defect)
    tests = [defect.test for defect in planted]
    assert outcomes(service, tests) == dict.fromkeys(tests, "FAILED")


def test_every_shipped_test_has_a_defect_that_it_notices(sound: Path) -> None:
    shipped = {
        name
        for path in (sound / "tests").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert shipped == {defect.test.partition("[")[0] for defect in DEFECTS}


def test_a_repository_without_models_fails_and_says_what_to_run(
    sound: Path, tmp_path: Path
) -> None:
    service = tmp_path / "service"
    shutil.copytree(sound, service)
    shutil.rmtree(service / "models")
    shutil.rmtree(service / "registry")
    (service / "traffic.yaml").write_text("models: {}\n", encoding="utf-8")
    printed = printed_by(service, [f"{GOLDEN}[no-model]"])
    assert outcomes_in(printed) == {f"{GOLDEN}[no-model]": "ERROR"}
    assert "acme-models new NAME" in printed


def test_a_model_without_a_version_fails_and_says_what_to_run(sound: Path, tmp_path: Path) -> None:
    service = tmp_path / "service"
    shutil.copytree(sound, service)
    shutil.copytree(service / "models/a_number", service / "models/another")
    tests = [f"{GOLDEN}[another-untrained]", f"{GOLDEN}[a_number-1]"]
    printed = printed_by(service, tests)
    assert outcomes_in(printed) == {tests[0]: "ERROR", tests[1]: "PASSED"}
    assert " train another" in printed
