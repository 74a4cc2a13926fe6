"""The contract bundle says what the code serves, for every model and every error."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from model_service.handoff.bundle import bundle_folder, contracts_in, make_bundle
from model_service.handoff.error_catalogue import error_catalogue
from model_service.repository import Repository
from model_service.serving.problems import PROBLEMS
from model_service.settings import read_settings
from tests.platform.commands.command import command
from tests.platform.handoff.stub_process import copy_of, serving_stub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.platform.serving.server_process import ServerProcess


@pytest.fixture(scope="module")
def service(default_service: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_of(default_service, tmp_path_factory.mktemp("bundle") / "acme-models")
    exported = command(Repository(folder), "contract", "export")
    assert exported.returncode == 0, exported.stderr
    return folder


@pytest.fixture(scope="module")
def stub(service: Path) -> Iterator[ServerProcess]:
    with serving_stub(service) as server:
        yield server


@pytest.fixture
def changed(service: Path, tmp_path: Path) -> Repository:
    """A service of one's own, whose bundle is fresh until it is changed."""
    return Repository(copy_of(service, tmp_path / "acme-models"))


def read(service: Path, name: str) -> Any:
    return msgspec.json.decode((service / "handoff/contract" / name).read_bytes())


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


def test_the_document_is_the_one_that_is_served(service: Path, stub: ServerProcess) -> None:
    document = read(service, "openapi.json")
    assert document == stub.client.get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()


@pytest.mark.parametrize("model", ["penguin_mass", "penguin_species"])
def test_every_example_is_answered_as_it_says(
    service: Path, stub: ServerProcess, model: str
) -> None:
    examples = read(service, f"examples/{model}.json")
    assert {"one_row", "a_missing_value", "every_row_refused"} <= {e["name"] for e in examples}
    for example in examples:
        sent, told = example["request"], example["answer"]
        answer = stub.client.request(sent["method"], sent["path"], json=sent["body"])
        assert answer.status_code == told["status"]
        if answer.status_code != 200:
            assert answer.json()["type"] == told["type"]
            continue
        given = answer.json()
        for row in [*given["rows"], *told["body"]["rows"]]:
            del row["prediction_id"]
        assert given["rows"] == told["body"]["rows"]
        assert given["model"] == told["body"]["model"]


def test_every_error_of_the_code_is_in_the_catalogue(service: Path) -> None:
    catalogue = read(service, "errors.json")
    assert list(catalogue) == list(PROBLEMS)
    for slug, entry in catalogue.items():
        assert entry["type"] == f"/docs#problem-{slug}"
        assert all(entry[cell] for cell in ("what_happened", "what_to_do", "may_i_retry"))
        assert all(entry[cell] for cell in ("fallback", "whom_to_tell"))
        assert entry["may_i_retry"].startswith("Yes" if PROBLEMS[slug].retry else "No")


def test_no_error_is_retried_that_the_caller_has_to_correct() -> None:
    for entry in error_catalogue().values():
        if entry.status < 500 and entry.status not in (408, 429):
            assert not entry.retry


def test_every_output_has_a_meaning(service: Path) -> None:
    species = read(service, "semantics.json")["penguin_species"]
    assert species["classes"] == ["Adelie", "Chinstrap", "Gentoo"]
    assert species["calibrated"] is False
    assert species["decided_by"] == "not stated"
    mass = read(service, "semantics.json")["penguin_mass"]
    assert (mass["unit"], mass["minimum"], mass["maximum"]) == ("g", 2000, 8000)
    schemas = read(service, "openapi.json")["components"]["schemas"]
    for model, meaning in read(service, "semantics.json").items():
        answered = {f"rows[].{name}" for name in schemas[f"{model}.AnsweredRow"]["properties"]}
        described = {*schemas[f"{model}.Answer"]["properties"], *answered, "rows[].error"}
        assert meaning["fields"].keys() == described
        assert all(meaning["fields"].values())


def test_limits_and_service_level_are_those_of_the_settings(service: Path) -> None:
    told = read(service, "promises.json")
    settings = read_settings(Repository(service), {})
    assert told["limits"]["rows_per_request"] == settings.limits.rows_per_request
    assert told["service_level"]["latency_milliseconds"] == settings.slo.latency_milliseconds


def test_the_digests_hold_for_the_files(service: Path) -> None:
    folder = bundle_folder(Repository(service))
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True)
    listed = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(listed) == len(files) - 1 > 5


def test_it_is_the_same_to_the_byte_whatever_the_environment_says(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_SERVICE_LIMITS__ROWS_PER_REQUEST", "3")
    monkeypatch.setenv("PYTHONHASHSEED", "4")
    checked = command(Repository(service), "contract", "export", "--check")
    assert checked.returncode == 0, checked.stdout
    repository = Repository(service)
    settings = read_settings(repository, {})
    first = make_bundle(settings, contracts_in(repository))
    assert first == make_bundle(settings, contracts_in(repository))


@pytest.mark.parametrize(
    ("path", "before", "after", "named"),
    [
        ("models/penguin_mass/contract.yaml", "maximum: 8000", "maximum: 9000", "semantics.json"),
        ("models/penguin_species/contract.yaml", "unit: mm", "unit: cm", "openapi.json"),
        ("service.yaml", "rows_per_request: 10000", "rows_per_request: 9", "openapi.json"),
        ("service.yaml", "availability: 0.999", "availability: 0.99", "promises.json"),
        ("handoff/contract/errors.json", '"status": 429', '"status": 428', "errors.json"),
    ],
)
def test_a_change_makes_it_stale_until_it_is_exported_again(
    changed: Repository, path: str, before: str, after: str, named: str
) -> None:
    edit(changed.root / path, before, after)
    stale = command(changed, "contract", "export", "--check")
    assert stale.returncode == 1
    assert f"handoff/contract/{named} is not what would be written now" in stale.stdout
    assert "contract export" in stale.stdout
    assert command(changed, "contract", "export").returncode == 0
    assert command(changed, "contract", "export", "--check").returncode == 0


def test_files_of_models_that_are_gone_go_as_well(changed: Repository) -> None:
    for path in (changed.models / "penguin_mass").rglob("contract.yaml"):
        path.unlink()
    stale = command(changed, "contract", "export", "--check")
    assert stale.returncode == 1
    assert "examples/penguin_mass.json does not belong there" in stale.stdout
    assert command(changed, "contract", "export").returncode == 0
    assert not (bundle_folder(changed) / "examples/penguin_mass.json").exists()


def test_a_repository_without_a_bundle_is_told_to_write_one(default_service: Path) -> None:
    checked = command(Repository(default_service), "contract", "export", "--check")
    assert checked.returncode == 1
    assert "openapi.json is missing" in checked.stdout
