"""`handoff check`: what is required when, who has to do it, and how it is told."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

import pytest
import yaml

from model_service.handoff.check import check, exit_code
from model_service.handoff.items import UnknownItemError, checklist, items_of
from model_service.handoff.outcome import PROOFS, Result
from model_service.handoff.proofs import load_proofs
from model_service.handoff.report import as_annotations, as_junit, as_markdown, report_of
from model_service.handoff.report_page import as_html
from model_service.handoff.signature import SignatureError, read_sign_off, sign
from model_service.handoff.subject import Subject
from model_service.handoff.waiver import WaiverError
from model_service.repository import Repository
from tests.deploy.vulnerability_database import A_HOLE, database_of_vulnerabilities
from tests.handoff import handed_over as service
from tests.rendering import commit_all, git

if TYPE_CHECKING:
    from pathlib import Path

TODAY = dt.date(2026, 10, 1)
LAUNCH = "2026-11-12"  # six weeks later: OWN-* and most of CON-* are required
SERVICE = "name: acme\nowners: ['@ann', '@bob']\nlevel: B\nlaunch_date: {}\ncontacts:\n"
SERVICE += "  {{on_call: '#models', backend: '@be', devops: '@do', product: '@pr'}}\n"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Almost nothing of a service: enough for items that are read or signed."""
    root = tmp_path / "acme"
    (root / "models/fruit").mkdir(parents=True)
    (root / "handoff").mkdir()
    (root / "service.yaml").write_text(SERVICE.format(LAUNCH), encoding="utf-8")
    (root / "handoff/kick-off.md").write_text("# Kick-off\n", encoding="utf-8")
    commit_all(root)
    git(root, "config", "user.email", "pat@example.invalid")
    return Repository(root)


def results(
    repository: Repository, *ids: str, today: dt.date = TODAY, named: bool = False
) -> dict[str, Result]:
    with Subject(repository, today, {}) as subject:
        found = check(subject, items_of(ids), named=named)
    return {result.item.id: result for result in found}


def waive(repository: Repository, **changes: object) -> None:
    waiver = {"item": "OWN-3", "reason": "they travel", "by": "Pat", "given": TODAY} | changes
    waiver.setdefault("until", TODAY + dt.timedelta(days=10))
    path = repository.root / "handoff/waivers.yaml"
    path.write_text(yaml.safe_dump([waiver]), encoding="utf-8")


def test_an_item_is_required_from_its_weeks_before_the_launch(repository: Repository) -> None:
    assert results(repository, "OWN-3")["OWN-3"].required
    assert not results(repository, "OWN-3", today=TODAY - dt.timedelta(days=1))["OWN-3"].required
    assert not results(repository, "OBS-6")["OBS-6"].required
    assert results(repository, "OBS-6", named=True)["OBS-6"].required
    (repository.root / "service.yaml").write_text(SERVICE.format("null"), encoding="utf-8")
    shown = results(repository, "OWN-3")["OWN-3"]
    assert (shown.state, shown.required, shown.due) == ("fail", False, None)


def test_what_a_level_does_not_ask_is_not_tried(repository: Repository) -> None:
    shown = results(repository, "MOD-7")["MOD-7"]
    assert (shown.state, shown.required) == ("skipped", False)
    assert "asked of level A" in shown.line


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (["pass", "pass"], 0),
        (["pass", "waived"], 0),
        (["pass", "fail"], 1),
        (["pass", "stale"], 1),
        (["skipped", "fail"], 1),
        (["skipped", "pass"], 3),
        (["fail", "broken"], 2),
    ],
)
def test_the_exit_code_tells_what_came_of_it(states: list[str], code: int) -> None:
    item = checklist()[0]
    made = [Result(item, item.team, state, "", None, True) for state in states]  # type: ignore[arg-type]
    assert exit_code(made) == code
    not_required = [Result(item, item.team, "fail", "", None, False)]
    assert exit_code(not_required) == 0


def test_a_proof_that_breaks_says_nothing_of_the_service(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_proofs()

    def breaks(_: Subject) -> str:
        raise KeyError("no such thing")

    monkeypatch.setitem(PROOFS, "OWN-4", breaks)
    shown = results(repository, "OWN-3", "OWN-4")
    assert shown["OWN-4"].state == "broken"
    assert shown["OWN-3"].state == "fail"
    assert exit_code(list(shown.values())) == 2


def test_a_signature_counts_until_the_bytes_change(repository: Repository) -> None:
    (item,) = items_of(["OWN-3"])
    sign(repository, item, "product", "Pat", "", TODAY)
    assert results(repository, "OWN-3")["OWN-3"].state == "pass"
    (repository.root / "handoff/kick-off.md").write_text("# Another\n", encoding="utf-8")
    shown = results(repository, "OWN-3")["OWN-3"]
    assert (shown.state, shown.team) == ("stale", "product")


@pytest.mark.parametrize("words", ["Held on …, with … of backend.", "- Who is called at night:"])
def test_a_form_that_nobody_filled_in_is_no_decision(repository: Repository, words: str) -> None:
    (item,) = items_of(["OWN-3"])
    (repository.root / "handoff/kick-off.md").write_text(
        f"# Kick-off\n\n{words}\n", encoding="utf-8"
    )
    sign(repository, item, "product", "Pat", "", TODAY)
    shown = results(repository, "OWN-3")["OWN-3"]
    assert (shown.state, words in shown.line) == ("fail", True)


def test_a_signature_of_tomorrow_does_not_count(repository: Repository) -> None:
    (item,) = items_of(["OWN-3"])
    sign(repository, item, "product", "Pat", "", TODAY + dt.timedelta(days=1))
    assert results(repository, "OWN-3")["OWN-3"].state == "stale"


def test_a_copied_sign_off_is_not_that_of_another_team(repository: Repository) -> None:
    (item,) = items_of(["OBS-6"])
    sign(repository, item, "devops", "Dee", "", TODAY)
    folder = repository.root / "handoff/signoff"
    (folder / "product.yaml").write_bytes((folder / "devops.yaml").read_bytes())
    with pytest.raises(SignatureError, match="signatures of devops"):
        read_sign_off(repository, "product")


def test_a_signature_is_bound_to_one_key_of_a_file(repository: Repository) -> None:
    (item,) = items_of(["OBS-6"])
    sign(repository, item, "devops", "Dee", "", TODAY)
    path = repository.root / "service.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "title: Another title\n", encoding="utf-8")
    assert results(repository, "OBS-6")["OBS-6"].state == "pass"
    assert (
        results(repository, "OBS-6", today=TODAY + dt.timedelta(days=91))["OBS-6"].state == "stale"
    )
    path.write_text(text.replace("#models", "#others"), encoding="utf-8")
    assert results(repository, "OBS-6")["OBS-6"].state == "stale"


def test_the_author_does_not_sign_for_others(repository: Repository) -> None:
    (item,) = items_of(["OWN-3"])
    git(repository.root, "config", "user.email", "tester@example.invalid")
    with pytest.raises(SignatureError, match="author of the last change"):
        sign(repository, item, "product", "Tester", "", TODAY)
    with pytest.raises(SignatureError, match="not signed by devops"):
        sign(repository, item, "devops", "Tester", "", TODAY)
    assert read_sign_off(repository, "product").signatures == {}
    # Written by hand it does not count either, and whoever commits the file is no author.
    git(repository.root, "config", "user.email", "pat@example.invalid")
    sign(repository, item, "product", "Pat", "", TODAY)
    commit = ["-c", "user.email=pat@example.invalid", "commit", "--quiet", "--message", "Signed"]
    git(repository.root, "add", "--all")
    git(repository.root, *commit)
    assert results(repository, "OWN-3")["OWN-3"].state == "pass"
    path = repository.root / "handoff/signoff/product.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("pat@", "tester@"), encoding="utf-8")
    assert results(repository, "OWN-3")["OWN-3"].state == "fail"


def test_addresses_are_compared_whatever_their_case(repository: Repository) -> None:
    (item,) = items_of(["OWN-3"])
    git(repository.root, "config", "user.email", "Tester@Example.Invalid")
    with pytest.raises(SignatureError, match="author of the last change"):
        sign(repository, item, "product", "Tester", "", TODAY)


def test_without_an_address_nobody_signs_for_another_team(repository: Repository) -> None:
    """Git knows none: it could be the author who signs."""
    (item,) = items_of(["OWN-3"])
    git(repository.root, "config", "user.email", "")
    with pytest.raises(SignatureError, match=r"git config user\.email"):
        sign(repository, item, "product", "Pat", "", TODAY)
    git(repository.root, "config", "user.email", "pat@example.invalid")
    sign(repository, item, "product", "Pat", "", TODAY)
    path = repository.root / "handoff/signoff/product.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("pat@example.invalid", "''"))
    shown = results(repository, "OWN-3")["OWN-3"]
    assert (shown.state, shown.team) == ("fail", "product")
    assert "without an address" in shown.line


def test_whoever_signs_sees_for_whom_and_for_which_bytes(repository: Repository) -> None:
    code, told, error = service.command(repository.root, "handoff", "sign", "product", "OWN-3")
    assert code == 0, error
    sha256 = read_sign_off(repository, "product").signatures["OWN-3"].sha256
    assert "<pat@example.invalid> signed OWN-3 for Product" in told
    assert f"handoff/kick-off.md, sha256 {sha256[:12]}" in told
    assert "not committed" not in told
    (repository.root / "handoff/kick-off.md").write_text("# Another\n", encoding="utf-8")
    code, told, error = service.command(repository.root, "handoff", "sign", "product", "OWN-3")
    assert code == 0, error
    assert "handoff/kick-off.md is not committed as it is signed" in told


def test_a_waiver_holds_until_its_day_and_no_longer(repository: Repository) -> None:
    waive(repository)
    shown = results(repository, "OWN-3")["OWN-3"]
    assert (shown.state, exit_code([shown])) == ("waived", 0)
    assert "until 2026-10-11 by Pat" in shown.line
    late = results(repository, "OWN-3", today=TODAY + dt.timedelta(days=11))["OWN-3"]
    assert (late.state, exit_code([late])) == ("fail", 1)
    assert "ended on 2026-10-11" in late.line


@pytest.mark.parametrize(
    "changes",
    [{"until": TODAY + dt.timedelta(days=31)}, {"by": ""}, {"reason": ""}, {"item": "XYZ-1"}],
)
def test_a_waiver_that_lasts_or_is_nobodys_is_refused(
    repository: Repository, changes: dict[str, object]
) -> None:
    waive(repository, **changes)
    with pytest.raises(WaiverError):
        results(repository, "OWN-3")


def test_an_item_that_does_not_exist_is_named(repository: Repository) -> None:
    with pytest.raises(UnknownItemError, match="CON-99"):
        items_of(["CON-99"])
    code, _, error = service.command(repository.root, "handoff", "check", "CON-99")
    assert code == 2
    assert "CON-99 is no item" in error


def test_teams_come_first_and_every_format_can_be_read(repository: Repository) -> None:
    found = list(results(repository, "OWN-3", "OWN-4", "OBS-6", "SRV-4", "MOD-7").values())
    report = report_of("acme", "B", TODAY, dt.date.fromisoformat(LAUNCH), found, exit_code(found))
    lines = {digest.team: digest.line for digest in report.teams}
    assert lines["product"] == "Product: 2 to do, next due today"
    assert lines["devops"] == "DevOps: 1 to do, next due in 35 days"
    assert lines["data-science"] == "Data science: nothing to do"
    assert report.score.share == min(group.share for group in report.groups) == 0
    markdown = as_markdown(report)
    assert markdown.index("Product: 2 to do") < markdown.index("### Ownership")
    suites = ElementTree.fromstring(as_junit(report))  # noqa: S314
    failures = [
        case.get("name") for case in suites.iter("testcase") if case.find("failure") is not None
    ]
    assert [name[:5] for name in failures if name] == ["OWN-3", "SRV-4"]
    annotations = as_annotations(report).splitlines()
    assert annotations[0].startswith("::error title=OWN-3 ")
    assert any(line.startswith("::warning title=OBS-6") for line in annotations)
    page = as_html(report)
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<tr id=") == 5


def test_the_command_speaks_json_and_ends_with_its_code(repository: Repository) -> None:
    arguments = ["handoff", "check", "OWN-4", "OWN-3", "--today", str(TODAY), "--format", "json"]
    code, output, error = service.command(repository.root, *arguments)
    assert code == 1, error
    shown = json.loads(output)
    assert shown["exit_code"] == 1
    assert [each["state"] for each in shown["results"]] == ["fail", "pass"]
    assert shown["ml_test_score"]["sections"].keys() >= {"Monitoring"}
    code, output, _ = service.command(repository.root, "handoff", "check", "OWN-4")
    assert code == 0
    assert "OWN-4" in output


def test_every_item_is_proven_or_signed() -> None:
    load_proofs()
    for item in checklist():
        assert item.signers or item.id in PROOFS, item.id
        assert item.kind == "sign-off" or item.id in PROOFS, item.id


def test_before_the_first_training_what_needs_a_version_is_skipped(default_service: Path) -> None:
    """It is no fault of the service yet; what the stub can show is shown."""
    needing = ("CON-4", "CON-8", "DAT-5", "REL-1", "REL-2", "REL-4", "REL-6", "OBS-5", "SEC-4")
    found = results(Repository(default_service), *needing, named=True)
    for result in found.values():
        assert (result.state, "has no champion yet" in result.line) == ("skipped", True), result
    assert results(Repository(default_service), "CON-9", named=True)["CON-9"].state == "pass"


def test_a_service_that_does_not_start_is_a_fault_to_every_item(
    default_service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only to the first that asks it: to the others the check would be broken."""
    monkeypatch.setenv("MODEL_SERVICE_SERVER__WORKERS", "none")
    found = results(Repository(default_service), "CON-6", "CON-9", named=True)
    for result in found.values():
        assert (result.state, "does not start" in result.line) == ("fail", True), result


def test_a_known_vulnerability_is_a_fault(
    handed_over: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
    with database_of_vulnerabilities({"numpy": [A_HOLE]}) as address:
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", address)
        found = results(Repository(handed_over), "SEC-2", named=True)["SEC-2"]
    assert (found.state, found.line[:21]) == ("fail", "Found 1 known vulnera")


def test_what_cannot_be_tried_here_says_what_is_missing(
    handed_over: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("git", "env"):  # and nothing else
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    found = results(Repository(handed_over), "SRV-1", "OBS-3", "SEC-2", today=service.TODAY)
    assert {id_: result.state for id_, result in found.items()} == dict.fromkeys(found, "skipped")
    assert "neither podman nor docker" in found["SRV-1"].line
    assert "apt-get install prometheus" in found["OBS-3"].line
    assert "known vulnerabilities could not be asked for" in found["SEC-2"].line
    assert exit_code(list(found.values())) == 0  # nothing of it is required yet


def test_the_service_that_is_handed_over_holds_all_that_can_be_proven_here(
    handed_over: Path,
) -> None:
    """A quick check: what it leaves out is seen green and red by the planted defects."""
    root = Repository(handed_over)
    with Subject(root, service.TODAY) as subject:
        found = check(subject, items_of([]), quick=True)
    wrong = {r.item.id: (r.state, r.line) for r in found if r.state not in ("pass", "skipped")}
    assert wrong == {}
    skipped = {r.item.id for r in found if r.state == "skipped"}
    assert skipped <= {item.id for item in checklist() if item.slow} | {"SRV-1", "SRV-5", "SRV-3"}
