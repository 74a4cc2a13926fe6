"""Who guards the checklist: a planted defect turns its item red, and no other one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from model_service.handoff.check import check
from model_service.handoff.items import checklist, items_of
from model_service.handoff.subject import Subject
from model_service.registry.golden import GOLDEN, read_golden, write_golden
from model_service.repository import Repository
from tests.debian import program
from tests.deploy.containers import BUILD_ENVIRONMENT
from tests.handoff import handed_over as service
from tests.handoff.handed_over import TODAY, edit, seal_again
from tests.rendering import ROOT, git

# Items that need no running service, and those that ask the same one: looked at beside a defect.
READ = [
    *("OWN-1", "OWN-4", "CON-1", "CON-2", "DAT-1", "DAT-5", "DAT-6", "MOD-4", "MOD-5"),
    *("SRV-6", "REL-1", "SEC-1", "OPS-1", "OPS-4", "LIF-1", "SRV-3"),
]
ASKED = [
    *("CON-4", "CON-6", "DAT-2", "DAT-3", "SRV-2", "SRV-5", "REL-3"),
    *("OBS-1", "OBS-2", "SEC-3"),
]
SPECIES = "models/penguin_species"
VERSION = "registry/penguin_species/1"
CHECKED = '    if value is None or (value == "" and feature.is_text):'
Plant = Callable[[Path], None]


@dataclass(frozen=True)
class Defect:
    """Something wrong, and the item that must say so. `plant` spoils a copy of the service; of the
    platform, `platform` names the file below `model_service/` and what is edited in it."""

    item: str
    what: str
    plant: Plant | None = None
    platform: tuple[str, str, str] | None = None


def seal_and_measure(root: Path) -> None:
    """Make the version and what a load test says of it agree with its files."""
    seal_again(root / VERSION)
    service.measure(root)


def of_platform(item: str, what: str, path: str, before: str, after: str) -> Defect:
    """Spoil one file of the platform."""
    return Defect(item, what, platform=(path, before, after))


def text(path: str, before: str, after: str) -> Plant:
    """Spoil by an edit of one file."""
    return lambda root: edit(root / path, before, after)


def sealed(path: str, before: str, after: str) -> Plant:
    """Spoil a file of a version whose digests agree, as if it had been trained like that."""

    def plant(root: Path) -> None:
        edit(root / VERSION / path, before, after)
        seal_and_measure(root)

    return plant


def nobody_on_call(root: Path) -> None:
    """The bundle, which names whom to call, says so as well."""
    edit(root / "service.yaml", '"#models-on-call"', '""')
    service.export(root)


def a_contract_that_breaks_callers(root: Path) -> None:
    """Nobody may leave out the length of the bill any more; the bundle says so as well."""
    edit(root / SPECIES / "contract.yaml", "on_missing: {impute: 44.5}", "on_missing: reject")
    rows = "bill_length_mm: 39.1, bill_depth_mm: 18.7, flipper_length_mm: 181, body_mass_g: 3750"
    assert rows in (root / SPECIES / "contract.yaml").read_text(encoding="utf-8")
    service.export(root)


def a_model_that_fails_for_an_example(root: Path) -> None:
    """The features of one documented row, which is no golden one, cannot be computed."""
    golden = read_golden((root / VERSION / GOLDEN).read_bytes())
    assert not [each for each in golden if each.row["body_mass_g"] == 4511]
    for path in (f"{SPECIES}/contract.yaml", f"{VERSION}/contract.yaml"):
        edit(root / path, "body_mass_g: 4500", "body_mass_g: 4511")
    with (root / VERSION / "features.py").open("a", encoding="utf-8") as code:
        code.write(
            "\n\nin_a_test = features\n\n\ndef features(columns):\n"
            "    assert (columns['body_mass_g'] != 4511).all()\n    return in_a_test(columns)\n"
        )
    seal_and_measure(root)
    service.export(root)


def features_that_depend_on_the_batch(root: Path) -> None:
    """Features are moved a little by their neighbours: less than the model notices."""
    with (root / VERSION / "features.py").open("a", encoding="utf-8") as code:
        code.write(
            "\n\nin_a_test = features\n\n\ndef features(columns):\n"
            "    made = dict(in_a_test(columns))\n    name = 'bill_length_mm'\n"
            "    made[name] = made[name] + 1e-7 * made[name].mean()\n    return made\n"
        )
    seal_and_measure(root)


def only_empty_tests(root: Path) -> None:
    """Three tests of behaviour that test nothing."""
    empty = "def test_{}() -> None:\n    assert True\n\n\n"
    (root / SPECIES / "tests/test_species.py").write_text(
        "import pytest\n\npytestmark = pytest.mark.behaviour\n\n\n"
        + "".join(empty.format(name) for name in ("one", "two", "three")),
        encoding="utf-8",
    )


def a_profile_without_a_feature(root: Path) -> None:
    """The reference profile does not know the island."""
    path = root / VERSION / "profile.json"
    profile = json.loads(path.read_text(encoding="utf-8"))
    del profile["features"]["island"]
    path.chmod(0o644)
    path.write_text(json.dumps(profile), encoding="utf-8")
    seal_and_measure(root)


def a_slice_that_is_worse_off(root: Path) -> None:
    """What is true of the heaviest birds of one island was written down wrongly."""
    edit(
        root / "models/penguin_mass/train.py",
        "def load() -> pd.DataFrame:",
        "def load() -> pd.DataFrame:\n"
        "    data = read()\n"
        "    there = data.island == 'Torgersen'\n"
        "    return data.assign(body_mass_g=data.body_mass_g.where(~there, data.body_mass_g + 750))"
        "\n\n\ndef read() -> pd.DataFrame:",
    )
    edit(root / "models/penguin_mass/train.py", "at_most=300", "at_most=3000")
    edit(root / "models/penguin_mass/train.py", 'Gate("r2", at_least=0.75)', "")


def training_by_chance(root: Path) -> None:
    """Each training takes other rows."""
    edit(
        root / SPECIES / "train.py",
        "return pd.read_csv(DATA)",
        "import secrets\n\n    return pd.read_csv(DATA).sample(\n"
        "        frac=0.95, random_state=secrets.randbelow(10**6)\n    )",
    )


def a_golden_prediction_that_changed(root: Path) -> None:
    """A version that only answers as a shadow answers otherwise than when it was trained."""
    copied = root / "registry/penguin_species/2"
    shutil.copytree(root / VERSION, copied)
    golden = read_golden((copied / GOLDEN).read_bytes())
    for path in copied.iterdir():
        path.chmod(0o644)
    write_golden(copied, [*golden[1:], type(golden[0])(golden[0].row, "Gentoo")])
    seal_again(copied)
    service.edit_traffic(root, "penguin_species", shadows=["2"])


def a_secret(root: Path) -> None:
    """A key of AWS, taken apart here so that this file holds none."""
    key = "AKIA" + "IOSFODNN7" + "EXAMPLE"
    (root / "models/upload.sh").write_text(f"export AWS_ACCESS_KEY_ID={key}\n", encoding="utf-8")


DEFECTS = [
    Defect(
        "OWN-1",
        "contracts are not owned with backend",
        text("CODEOWNERS", " @acme/backend\n/h", "\n/h"),
    ),
    Defect("OWN-1", "a file has no owner", text("CODEOWNERS", "* @ann @bob\n", "/src/ @ann\n")),
    Defect("OWN-4", "nobody is on call", nobody_on_call),
    Defect(
        "CON-1",
        "the bundle was edited by hand",
        text("handoff/contract/openapi.json", '"3.1.0"', '"3.1.1"'),
    ),
    Defect("CON-2", "a contract breaks its callers", a_contract_that_breaks_callers),
    of_platform(
        "CON-4",
        "errors come as plain JSON",
        "serving/problems.py",
        'MEDIA_TYPE = b"application/problem+json"',
        'MEDIA_TYPE = b"application/json"',
    ),
    Defect("CON-6", "an example has no answer", a_model_that_fails_for_an_example),
    of_platform(
        "CON-8",
        "true is taken as 1",
        "contract/value_check.py",
        CHECKED,
        f"    value = 1 if value is True and feature.type == 'number' else value\n{CHECKED}",
    ),
    of_platform(
        "CON-9",
        "the stub answers something else",
        "contract/stub_answers.py",
        "example_answer(contract, seed)",
        "example_answer(contract, seed + 1)",
    ),
    Defect(
        "DAT-1",
        "nobody knows the owner of a source",
        text(f"{SPECIES}/contract.yaml", "owner: lab-team", 'owner: "?"'),
    ),
    of_platform(
        "DAT-2",
        "a new category is answered without a warning",
        "serving/prediction.py",
        ".warnings = warnings",
        ".warnings = [w for w in warnings if w.problem != 'unknown_category']",
    ),
    of_platform(
        "DAT-3",
        "an empty category is no missing one",
        "contract/value_check.py",
        '(value == "" and feature.is_text)',
        '(value == "" and feature.type == "string")',
    ),
    Defect("DAT-4", "the tests of a model run none of its code", only_empty_tests),
    Defect("DAT-5", "features depend on their neighbours", features_that_depend_on_the_batch),
    Defect("DAT-6", "the reference profile lacks a feature", a_profile_without_a_feature),
    Defect(
        "MOD-1",
        "more is demanded than the champion reaches",
        text(f"{SPECIES}/train.py", "at_least=0.95", "at_least=0.999"),
    ),
    Defect("MOD-2", "one island is predicted much worse", a_slice_that_is_worse_off),
    Defect(
        "MOD-3",
        "no test is one of behaviour",
        text(f"{SPECIES}/tests/test_species.py", "pytestmark = pytest.mark.behaviour\n", ""),
    ),
    of_platform(
        "MOD-4",
        "a row alone is answered otherwise",
        "registry/loaded_version.py",
        "        if raw.shape != shape:",
        "        raw = raw * 1.01 if rows == 1 else raw\n        if raw.shape != shape:",
    ),
    Defect("MOD-5", "the card boasts", sealed("card.md", "| accuracy | 0.", "| accuracy | 1.")),
    Defect("MOD-7", "training is left to chance", training_by_chance),
    of_platform(
        "SRV-2",
        "every version is the champion",
        "serving/loaded_models.py",
        "        return resolved\n",
        "        return self._doors.get((model, None), resolved)\n",
    ),
    Defect(
        "SRV-3",
        "the peak has grown since it was measured",
        text(f"{SPECIES}/model.yaml", "requests_per_second: 10}", "requests_per_second: 100}"),
    ),
    Defect(
        "SRV-5",
        "nobody asks whether it lives",
        text("deploy/kubernetes/base/service.yaml", "livenessProbe", "lifecycle"),
    ),
    Defect(
        "SRV-6",
        "a library is not locked",
        text("config/constraints.txt", "\nmsgspec==", "\n# msgspec=="),
    ),
    Defect("REL-1", "a golden prediction changed", a_golden_prediction_that_changed),
    of_platform(
        "REL-2",
        "the service does not follow traffic.yaml",
        "serving/version_loader.py",
        "changed = stamp != self._stamp and settled",
        "changed = False",
    ),
    of_platform(
        "REL-3",
        "a broken version does not say why",
        "serving/version_loader.py",
        '"failed", str(error), error.code',
        '"failed", "", error.code',
    ),
    of_platform(
        "REL-4",
        "told to stop, it drops everything",
        "serving/server.py",
        "self.force_exit = self.should_exit and",
        "self.force_exit = True or",
    ),
    of_platform(
        "OBS-1",
        "the log forgets the request id",
        "serving/logs.py",
        "request_id=request_id,",
        "request_id=None,",
    ),
    of_platform(
        "OBS-2",
        "nobody counts dirty values",
        "serving/metrics.py",
        'name = "unknown" if code',
        'return\n        name = "unknown" if code',
    ),
    Defect(
        "OBS-3",
        "a rule is no PromQL",
        text("monitoring/rules/service.yaml", "absent(model_service", "absent((model_service"),
    ),
    Defect("SEC-1", "a key is in the repository", a_secret),
    Defect(
        "SEC-2",
        "a library is not listed",
        text("build/sbom.json", '"name":"numpy"', '"name":"numpie"'),
    ),
    of_platform(
        "SEC-3",
        "bodies are printed",
        "contract/rows.py",
        "        if self._strict_body is not None:\n            try:",
        "        import sys\n\n        print(body, file=sys.stderr, flush=True)\n"
        "        if self._strict_body is not None:\n            try:",
    ),
    Defect(
        "OPS-1",
        "an alert leads to nowhere",
        text("docs/runbook.md", "## Saturated", "## Too many callers"),
    ),
    of_platform(
        "OPS-3",
        "the log has other answers than were given",
        "serving/prediction_recorder.py",
        "value=answer.value,",
        "value=answer.value + 1 if isinstance(answer.value, float) else answer.value,",
    ),
    Defect(
        "OPS-4",
        "a ticket is in no tracker",
        text("handoff/plan.yaml", "link: https://tickets.example/7\n", "link: ''\n"),
    ),
    Defect(
        "LIF-1",
        "nobody will train it again",
        text(f"{SPECIES}/model.yaml", 'owner: "@ann"', 'owner: ""'),
    ),
]


def found(root: Path, ids: list[str], platform: Path | None = None) -> dict[str, tuple[str, str]]:
    """Check items, and return the state of each and its line."""
    if platform is not None:
        _, output, error = service.command(
            root, "handoff", "check", *ids, "--format", "json", platform=platform
        )
        results = json.loads(output or error)["results"]
        return {each["item"]["id"]: (each["state"], each["line"]) for each in results}
    with Subject(Repository(root), TODAY) as subject:
        results_here = check(subject, items_of(ids), named=True)
    return {each.item.id: (each.state, each.line) for each in results_here}


def edited_platform(folder: Path, path: str, before: str, after: str) -> Path:
    """Copy the platform with what was compiled of it, and edit one file."""
    shutil.copytree(ROOT / "template/src", folder)
    edit(folder / "model_service" / path, before, after)
    return folder


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: f"{defect.item} {defect.what}")
def test_a_defect_turns_exactly_its_item_red(
    defect: Defect, handed_over: Path, tmp_path: Path
) -> None:
    root = service.copy_of(handed_over, tmp_path / "copy")
    platform = None
    if defect.platform is not None:
        platform = edited_platform(tmp_path / "platform", *defect.platform)
    if defect.plant is not None:
        defect.plant(root)
    beside = [*READ, *ASKED] if defect.item in ASKED else READ
    states = found(root, [defect.item, *beside], platform)
    state, line = states.pop(defect.item)
    assert state in ("fail", "stale"), (state, line)
    assert {id_: each for id_, each in states.items() if each[0] != "pass"} == {}


def test_every_automatic_item_has_a_planted_defect() -> None:
    automatic = {item.id for item in checklist() if item.kind == "auto"}
    assert automatic - {defect.item for defect in DEFECTS} == {"SRV-1"}  # the test below


def test_an_image_that_runs_as_root_turns_its_item_red(
    handed_over: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of this test are kept apart from those of the machine."""
    program("podman")
    storage = tmp_path / "storage.conf"
    storage.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/store"\nrunroot = "{tmp_path}/run"\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    assert found(handed_over, ["SRV-1"])["SRV-1"][0] == "skipped"
    version = git(handed_over, "describe", "--tags", "--always", "--dirty").strip()
    subprocess.run(
        [program("buildah"), "build", "--quiet", "--file", "-", "--tag", f"acme-models:{version}"],
        input="FROM scratch\nCOPY storage.conf /\nUSER root\n",
        text=True,
        cwd=tmp_path,
        env=os.environ | BUILD_ENVIRONMENT,
        check=True,
        capture_output=True,
    )
    state, line = found(handed_over, ["SRV-1"])["SRV-1"]
    assert (state, "runs as root" in line) == ("fail", True), line
