"""Who guards the checklist: a defect turns its item red and no other one, its mending green."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from model_service.handoff.check import check
from model_service.handoff.generated_files import with_sums, write_files
from model_service.handoff.items import checklist, items_of
from model_service.handoff.outcome import StaleError, UnmetError
from model_service.handoff.scratch import run_before_features
from model_service.handoff.signature import check_signatures, path_of
from model_service.handoff.subject import Subject
from model_service.registry.golden import GOLDEN, read_golden, write_golden
from model_service.repository import Repository
from tests.handoff import handed_over as service
from tests.handoff.handed_over import TODAY, edit, seal_again
from tests.rendering import ROOT

# Items that need no running service, and those that ask the same one: looked at beside a defect.
READ = [
    *("OWN-1", "OWN-4", "CON-1", "CON-2", "DAT-1", "DAT-5", "DAT-6", "MOD-4", "MOD-5"),
    *("SRV-6", "REL-1", "SEC-1", "OPS-1", "OPS-4", "LIF-1", "SRV-3"),
    *("OWN-2", "CON-3", "CON-5", "CON-7", "CON-10", "DAT-7", "MOD-6", "OPS-2", "LIF-2"),
]
ASKED = [
    *("CON-6", "DAT-2", "DAT-3", "SRV-2", "SRV-5", "REL-3"),
    *("OBS-1", "OBS-2", "SEC-3"),
]
SPECIES = "models/penguin_species"
VERSION = "registry/penguin_species/1"
NOT_OFFLINE = {"SEC-2": "known vulnerabilities could not be asked for"}
CHECKED = '    if value is None or (value == "" and feature.is_text):'
Plant = Callable[[Path], None]


@dataclass(frozen=True)
class Defect:
    """Something wrong, and the item that must say so. `plant` spoils a copy of the service; of the
    platform, `platform` names files below `model_service/` and what is edited in each. What the
    teams sign, they sign with the defect in it, but for a defect of a signature itself."""

    item: str
    what: str
    plant: Plant | None = None
    platform: tuple[tuple[str, str, str], ...] = ()
    is_signed: bool = True


def seal_and_measure(root: Path) -> None:
    """Make the version and what a load test says of it agree with its files."""
    seal_again(root / VERSION)
    service.measure(root)


def of_platform(
    item: str, what: str, path: str, before: str, after: str, *besides: tuple[str, str, str]
) -> Defect:
    """Spoil the platform."""
    return Defect(item, what, platform=((path, before, after), *besides))


def no_patience(path: str, seconds: int) -> tuple[str, str, str]:
    """An edit of a proof that would wait long for what does not come."""
    return f"handoff/proofs/{path}", f"LONGEST_SECONDS = {seconds}", "LONGEST_SECONDS = 3"


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


def a_bundle_of_another_service(root: Path) -> None:
    """What is committed is whole, and not what this code serves."""
    folder = root / "handoff/contract"
    edit(folder / "openapi.json", '"3.1.0"', '"3.1.1"')
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
    write_files(folder, with_sums(files))


def errors_that_nobody_is_told_of(root: Path) -> None:
    """The bundle is what that platform exports."""
    ran = service.command(root, "contract", "export", platform=root.parent / "platform")
    assert ran[0] == 0, ran


def an_answer_without_a_meaning(root: Path) -> None:
    """The contract, and the bundle that is made of it, say nothing of what is answered."""
    meaning = "The most probable species. Below a probability of 0.8 a person should look at the"
    edit(root / SPECIES / "contract.yaml", f">-\n    {meaning} photographs.", "Species")
    service.export(root)


def a_signature_for_something_else(root: Path) -> None:
    """Backend signed another contract."""
    path = root / "handoff/signoff/backend.yaml"
    stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    stated["signatures"]["CON-3"]["sha256"] = "0" * 64
    path.write_text(yaml.safe_dump(stated), encoding="utf-8")


def slow_features(root: Path) -> None:
    """Features that take more than a quarter of the promised 100 ms."""
    (root / VERSION / "features.py").chmod(0o644)
    run_before_features(root / VERSION, "import time\n\ntime.sleep(0.03)")
    seal_and_measure(root)


def a_cost_that_nobody_states(root: Path) -> None:
    """Neither the card of the model nor that of its champion does."""
    cost = "A bird is counted under the wrong species until"
    for path in (f"{SPECIES}/card.md", f"{VERSION}/card.md"):
        edit(root / path, cost, f"TODO {cost}")
    seal_and_measure(root)


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


def a_blind_spot(root: Path) -> None:
    """Whatever happens to the island, watching would not find it."""
    path = root / VERSION / "blind_spots.json"
    spots = json.loads(path.read_text(encoding="utf-8"))
    assert not spots["blind"]
    path.chmod(0o644)
    path.write_text(json.dumps({**spots, "blind": ["island"]}), encoding="utf-8")
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
    """Each training of the first model takes other rows."""
    edit(
        root / "models/penguin_mass/train.py",
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
        "the bundle is of another service",
        a_bundle_of_another_service,
    ),
    Defect("CON-2", "a contract breaks its callers", a_contract_that_breaks_callers),
    Defect(
        "OWN-2",
        "both maintainers are the same person",
        text(f"{SPECIES}/model.yaml", "slices:", 'maintainers: ["@ann", "@Ann"]\nslices:'),
    ),
    Defect("CON-3", "backend signed other bytes", a_signature_for_something_else, is_signed=False),
    of_platform(
        "CON-4",
        "a model that fails is answered as the caller's mistake",
        "serving/prediction.py",
        'ProblemError("model-failed", faults',
        'ProblemError("rows-rejected", faults',
    ),
    of_platform(
        "CON-4",
        "who sends slowly waits in vain",
        "serving/request_body.py",
        "async with asyncio.timeout(seconds):",
        "async with asyncio.timeout(20 * seconds):",
    ),
    of_platform(
        "CON-4",
        "errors come as plain JSON",
        "serving/problems.py",
        'MEDIA_TYPE = b"application/problem+json"',
        'MEDIA_TYPE = b"application/json"',
    ),
    Defect(
        "CON-5",
        "of one error nobody is told",
        errors_that_nobody_is_told_of,
        platform=(
            (
                "handoff/error_catalogue.py",
                "        TELL.get(slug, tell),",
                '        "" if slug == "queue-full" else TELL.get(slug, tell),',
            ),
        ),
    ),
    Defect("CON-6", "an example has no answer", a_model_that_fails_for_an_example),
    Defect("CON-7", "nobody says what the answer means", an_answer_without_a_meaning),
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
        "CON-10",
        "a consumer reads what no row has",
        text("handoff/consumers.yaml", "[value, probabilities]", "[value, colour]"),
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
    Defect("DAT-6", "watching is blind for an important feature", a_blind_spot),
    Defect("DAT-7", "features take too long", slow_features),
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
    Defect("MOD-6", "nobody says what an error costs", a_cost_that_nobody_states),
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
        no_patience("reliability.py", 30),
    ),
    of_platform(
        "REL-3",
        "a broken version does not say why",
        "serving/version_loader.py",
        "phase, str(error), error.code",
        'phase, "", error.code',
    ),
    of_platform(
        "REL-4",
        "told to stop, it drops everything",
        "serving/server.py",
        "self.force_exit = self.should_exit and",
        "self.force_exit = True or",
    ),
    of_platform(
        "REL-6",
        "what a shadow answers is not compared",
        "serving/shadow.py",
        'self.rows["agrees"] += 1',
        'self.rows["refused"] += 1',
        no_patience("reliability.py", 30),
    ),
    of_platform(
        "OBS-1",
        "the log forgets the request id",
        "serving/logs.py",
        "request_id=request_id,",
        "request_id=None,",
        no_patience("observability.py", 10),
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
    of_platform(
        "OBS-4",
        "alerts watch another service level",
        "serving/metrics.py",
        'of service.yaml", slo.availability)',
        'of service.yaml", 0.9)',
    ),
    of_platform(
        "OBS-5",
        "the monitor looks at one model only",
        "monitoring/terminal_view.py",
        "    for one in seen:\n        preview",
        "    for one in seen[:1]:\n        preview",
    ),
    Defect("SEC-1", "a key is in the repository", a_secret),
    Defect(
        "SEC-1",
        "a workflow runs whatever the branch of an action holds",
        text(".github/workflows/_check.yml", "@3d3c42e5aac5ba805825da76410c181273ba90b1", "@main"),
    ),
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
    of_platform(
        "SEC-4",
        "too many are sent away and not told until when",
        "serving/prediction.py",
        'headers=((b"retry-after", b"1"),),',
        "",
    ),
    Defect(
        "OPS-1",
        "an alert leads to nowhere",
        text("docs/runbook.md", "## Saturated", "## Too many callers"),
    ),
    Defect("OPS-2", "the author held the drill", text("handoff/drills.yaml", "bob@", "Tester@")),
    of_platform(
        "OPS-3",
        "the log has other answers than were given",
        "serving/answered_request.py",
        "json_texts([answer.value for",
        "json_texts([answer.value + 1 if isinstance(answer.value, float) else answer.value for",
    ),
    Defect(
        "OPS-4",
        "a ticket is in no tracker",
        text("handoff/plan.yaml", "link: https://tickets.example/7\n", "link: ''\n"),
    ),
    Defect(
        "LIF-1",
        "nobody knows when to train it again",
        text(
            f"{SPECIES}/model.yaml",
            "trigger: drift of two features or quality below its gate",
            'trigger: ""',
        ),
    ),
    Defect(
        "LIF-2",
        "nobody knows until when an old version is served",
        lambda root: service.edit_traffic(root, "penguin_species", pinned=["1"]),
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


def edited_platform(folder: Path, edits: tuple[tuple[str, str, str], ...]) -> Path:
    """Copy the platform with what was compiled of it, and edit files of it."""
    shutil.copytree(ROOT / "template/src", folder)
    for path, before, after in edits:
        edit(folder / "model_service" / path, before, after)
    return folder


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: f"{defect.item} {defect.what}")
def test_a_defect_turns_exactly_its_item_red_and_its_mending_green(
    defect: Defect, handed_over: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That items were green before is seen once, by a quick check of `handed_over`; that the slow
    ones were, by the same bytes after the mending."""
    monkeypatch.setenv("UV_OFFLINE", "1")  # known vulnerabilities change from day to day
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    root = service.copy_of(handed_over, tmp_path / "copy")
    platform = edited_platform(tmp_path / "platform", defect.platform) if defect.platform else None
    if defect.plant is not None:
        defect.plant(root)
        if defect.is_signed:
            service.sign_everything(root)
    beside = [*READ, *ASKED] if defect.item in (*ASKED, "CON-4") else READ
    states = found(root, [defect.item, *beside], platform)
    state, line = states.pop(defect.item)
    assert state in ("fail", "stale"), (state, line)
    assert {id_: each for id_, each in states.items() if each[0] != "pass"} == {}
    if defect.plant is not None:
        shutil.rmtree(root)
        service.copy_of(handed_over, root)
    state, line = found(root, [defect.item])[defect.item]
    assert state == ("skipped" if defect.item in NOT_OFFLINE else "pass"), (state, line)
    assert NOT_OFFLINE.get(defect.item, "") in line


def test_every_item_that_a_machine_proves_has_a_planted_defect() -> None:
    proven = {item.id for item in checklist() if item.kind != "sign-off"}
    # For SRV-1 there must be an image: tests/deploy/test_image.py.
    assert proven - {defect.item for defect in DEFECTS} == {"SRV-1"}


def test_every_signature_is_missed_when_it_is_gone_or_for_other_bytes(
    handed_over: Path, tmp_path: Path
) -> None:
    root = service.copy_of(handed_over, tmp_path / "copy")
    for item in checklist():
        for team in item.signers:
            path = path_of(Repository(root), team)
            sound = path.read_bytes()
            for other, error in (({}, UnmetError), ({"sha256": "0" * 64}, StaleError)):
                stated = yaml.safe_load(sound)
                signature = stated["signatures"].pop(item.id)
                if other:
                    stated["signatures"][item.id] = signature | other
                path.write_text(yaml.safe_dump(stated), encoding="utf-8")
                with pytest.raises(error) as missed:
                    check_signatures(Repository(root), item, TODAY)
                assert missed.value.team == team
            path.write_bytes(sound)
            assert "signed by" in check_signatures(Repository(root), item, TODAY)
