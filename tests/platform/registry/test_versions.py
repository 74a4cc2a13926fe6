"""A version is loaded only if it is what was trained, and says why it is not."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from model_service.registry.comparison import compare
from model_service.registry.loaded_version import (
    LoadedVersion,
    ModelError,
    VersionError,
    load_version,
)
from model_service.registry.manifest import read_manifest
from model_service.registry.registry import Registry
from model_service.training import train
from tests.platform.training.small_repository import NAME, make_repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = ["contract.yaml", "features.py", "model.onnx", "golden.jsonl", "profile.json", "card.md"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(make_repository(tmp_path_factory.mktemp("registry")), NAME).folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of a version that may be damaged."""
    copied = shutil.copytree(trained, tmp_path / "1")
    for path in copied.iterdir():
        path.chmod(0o644)
    return copied


def reseal(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest as somebody would who may write the registry."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    content = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(content)
    (folder / "manifest.sha256").write_text(hashlib.sha256(content).hexdigest())


def replace(folder: Path, name: str, content: bytes) -> None:
    """Change a file together with its digest."""
    (folder / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    reseal(folder, lambda manifest: manifest["files"].update({name: digest}))


def fault(folder: Path) -> str:
    with pytest.raises(VersionError) as refused:
        load_version(folder)
    assert str(folder) in refused.value.reason
    return refused.value.code


def test_a_version_that_is_what_was_trained_answers_as_it_did(folder: Path) -> None:
    loaded = load_version(folder)
    assert loaded.replay_golden() == []
    assert loaded.runs_inline


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_one_flipped_bit_keeps_a_version_out(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert fault(folder) == "digest_mismatch"


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sha256"])
def test_a_missing_file_keeps_a_version_out(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert fault(folder) == "missing_file"


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/hostname", "sub/../../outside.txt"])
def test_a_path_that_leads_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder.parent / "outside.txt").write_text("outside")
    digest = hashlib.sha256(b"outside").hexdigest()
    reseal(folder, lambda manifest: manifest["files"].update({name: digest}))
    assert fault(folder) == "invalid_manifest"


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    moved = folder.parent / "card.md"
    (folder / "card.md").rename(moved)
    (folder / "card.md").symlink_to(moved)
    assert fault(folder) == "invalid_manifest"


def test_a_link_of_a_folder_out_of_the_folder_is_refused(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "card.md").write_text("outside")
    (folder / "sub").symlink_to(outside)
    digest = hashlib.sha256(b"outside").hexdigest()
    reseal(folder, lambda manifest: manifest["files"].update({"sub/card.md": digest}))
    assert fault(folder) == "invalid_manifest"


def test_code_that_is_not_in_the_manifest_does_not_run(folder: Path) -> None:
    ran = folder.parent / "ran"
    (folder / "features.py").write_text(f"open({str(ran)!r}, 'w')\n")
    fault(folder)
    reseal(folder, lambda manifest: manifest["files"].pop("features.py"))
    assert fault(folder) == "missing_file"
    assert not ran.exists()


def test_a_pickle_is_not_loaded_unless_the_manifest_allows_it(folder: Path) -> None:
    reseal(folder, lambda manifest: manifest.update(format="joblib"))
    with pytest.raises(VersionError, match="the manifest allows none"):
        load_version(folder)


def test_a_golden_prediction_that_differs_is_told(folder: Path) -> None:
    lines = (folder / "golden.jsonl").read_text().splitlines()
    changed = json.loads(lines[2])
    changed["probabilities"]["pear"] += 0.01
    lines[2] = json.dumps(changed)
    replace(folder, "golden.jsonl", "\n".join(lines).encode())
    (difference,) = load_version(folder).replay_golden()
    assert difference.startswith("golden row 2: probability of pear")


def test_feature_code_that_computes_something_else_is_told(folder: Path) -> None:
    source = (folder / "features.py").read_text().replace(" / ", " * ")
    replace(folder, "features.py", source.encode())
    assert len(load_version(folder).replay_golden()) > 10


def test_two_versions_never_share_feature_code(folder: Path, trained: Path) -> None:
    def number_2(manifest: dict[str, Any]) -> None:
        manifest["version"] = "2"

    source = (folder / "features.py").read_text().replace(" / ", " * ")
    replace(folder, "features.py", source.encode())
    reseal(folder, number_2)
    first, second = load_version(trained), load_version(folder)
    values = first.reader.read_rows([golden.row for golden in first.golden]).values
    assert (first.features(values)["density"] != second.features(values)["density"]).any()
    assert first.replay_golden() == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def features(c): raise KeyError('weight')", "features() raised KeyError"),
        ("def features(c): return {**c, 'density': c['weight'][:0]}", "0 values of 'density'"),
        ("def features(c): return {**c, 'density': c['weight'] * float('nan')}", "NaN"),
        ("def features(c): return list(c)", "must return a mapping"),
    ],
)
def test_features_that_fail_are_an_error_of_the_model(folder: Path, source: str, said: str) -> None:
    replace(folder, "features.py", source.encode())
    loaded = load_version(folder)
    values = loaded.reader.read_rows([loaded.golden[0].row]).values
    with pytest.raises(ModelError) as failed:
        loaded.predict(values)
    assert said in str(failed.value)
    assert said in loaded.replay_golden()[0]


def test_probabilities_come_in_the_order_of_the_contract(trained: Path) -> None:
    loaded: LoadedVersion = load_version(trained)
    assert read_manifest(trained).classes != loaded.contract.output.classes
    read = loaded.reader.read_rows([golden.row for golden in loaded.golden])
    answers = loaded.predict(read.values)
    assert answers.probabilities is not None
    most = [loaded.contract.output.classes[i] for i in answers.probabilities.argmax(axis=1)]
    assert answers.values == most
    assert set(most) == {"pear", "apple"}


def test_a_class_with_a_threshold_is_answered_from_there_on_and_its_flips_are_compared(
    trained: Path, folder: Path
) -> None:
    old = load_version(trained)
    text = (folder / "contract.yaml").read_text("utf-8")
    stricter = "  calibrated: false\n  decided_by: sales\n  thresholds: {pear: 0.9}\n"
    replace(folder, "contract.yaml", text.replace("  calibrated: false\n", stricter).encode())
    new = load_version(folder)

    rows = [{"weight": 150, "length": 40.0 + n, "colour": "red"} for n in range(80)]
    answers = new.predict(new.reader.read_rows(rows).values)
    assert answers.probabilities is not None
    pears = [float(shares[0]) for shares in answers.probabilities]
    assert answers.values == ["pear" if share >= 0.9 else "apple" for share in pears]
    flipped = sum(0.5 < share < 0.9 for share in pears)
    assert flipped > 0
    compared = compare(old, new, rows)
    assert (compared.differing, compared.flips) == (flipped, (("pear", "apple", flipped),))


def test_a_number_is_never_used_twice_and_versions_are_in_numeric_order(
    trained: Path, tmp_path: Path
) -> None:
    registry = Registry(tmp_path)
    manifest = read_manifest(trained)

    def publish() -> str:
        with registry.incoming(NAME) as incoming:
            (incoming / "card.md").write_text("words")
            return registry.publish(incoming, manifest).version

    assert [publish() for _ in range(11)][-1] == "11"
    assert registry.versions(NAME)[-2:] == ["10", "11"]
    shutil.rmtree(registry.folder(NAME, "11"))
    assert publish() == "12"


def test_published_files_cannot_be_written_by_accident(trained: Path) -> None:
    assert [path.name for path in trained.iterdir() if path.stat().st_mode & 0o222] == []


@pytest.mark.parametrize("name", ["..", "../registry", "", "Fruit", ".incoming-1"])
def test_no_name_leads_out_of_the_registry(trained: Path, name: str) -> None:
    registry = Registry(trained.parents[1])
    assert registry.versions(name) == []
    with pytest.raises(VersionError, match="no version"):
        registry.folder(NAME, name)
