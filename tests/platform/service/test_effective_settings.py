"""`doctor` and the page of settings: what holds, where it comes from, and what each one means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from model_service.effective_settings import effective_settings, masked
from model_service.repository import Repository
from model_service.settings import setting_names
from scripts.settings_page import PAGE, page
from tests.platform.commands.command import command

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2"  # noqa: S105 - planted, to be found nowhere
WHOLE = f"""\
name: acme-models
server: {{port: 9000}}
stores: {{prediction_log: "postgresql://log:{SECRET}@db/log"}}
api_keys: {{web: "sha256:{"ab" * 32}"}}
"""
ENVIRON = {
    "MODEL_SERVICE_SERVER__WORKERS": "3",
    "MODEL_SERVICE_PREDICTION_LOG__SALT": SECRET,
    "MODEL_SERVICE_STORES__REMOTE_REGISTRY": f"abfs://account:{SECRET}@host/x",
}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "service.yaml").write_text(WHOLE, encoding="utf-8")
    return Repository(tmp_path)


def test_every_setting_says_where_it_comes_from(repository: Repository) -> None:
    found = {s.name: s for s in effective_settings(repository, ENVIRON)}
    assert list(found) == setting_names()
    assert (found["server.port"].value, found["server.port"].origin) == (9000, "service.yaml")
    assert (found["server.workers"].value, found["server.workers"].kind) == (3, "environment")
    assert found["server.workers"].origin == "MODEL_SERVICE_SERVER__WORKERS"
    assert (found["server.host"].value, found["server.host"].origin) == ("127.0.0.1", "default")


def test_doctor_shows_no_secret(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    for options in ((), ("--json",)):
        told = command(repository, "doctor", *options)
        assert "stores.prediction_log" in told.stdout, told.stderr
        assert "postgresql://log:***@db/log" in told.stdout
        assert SECRET not in told.stdout + told.stderr
        assert "ab" * 32 not in told.stdout
    settings = msgspec.json.decode(told.stdout)["settings"]
    assert {s["name"]: s["value"] for s in settings}["prediction_log.salt"] == "***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pass@db:5432/x", "postgresql://me:***@db:5432/x"),
        ("postgresql://db/x?user=me&password=pass", "postgresql://db/x?user=me&password=***"),
        ("postgresql://me:p@ss/w:o@rd@db/x", "postgresql://me:***@db/x"),
        ("postgresql://:p@ss@db/x", "postgresql://:***@db/x"),
        ("two: a://u:p@h/x and b://v:q@h/y", "two: a://u:***@h/x and b://v:***@h/y"),
        ("postgresql://token@db/x", "postgresql://***@db/x"),
        ("two: https://token@host and x", "two: https://***@host and x"),
        ("abfs://container@account/x", "abfs://container@account/x"),
        ("http://host?mail=a@b", "http://host?mail=a@b"),
        ("s3://bucket/path", "s3://bucket/path"),
        ("http://127.0.0.1:8080/path@version", "http://127.0.0.1:8080/path@version"),
        ("http://host/a:b@c", "http://host/a:b@c"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_passwords_are_masked_and_nothing_else(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_the_page_of_settings_is_what_the_code_reads() -> None:
    told = PAGE.read_text(encoding="utf-8")
    assert told == page(), "PYTHONPATH=template/src python scripts/settings_page.py writes it anew"
    for name in setting_names():
        assert f"| `{name}` |" in told
