"""Settings come from service.yaml and the environment, and unknown names never pass."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from model_service.repository import Repository, RepositoryError, find_repository
from model_service.settings import SettingsError, read_settings, setting_names, variable_of

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = """\
name: acme-models
owners: ["@ann", "@bob"]
launch_date: 2027-03-01
server: {port: 9000}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "service.yaml").write_text(WHOLE, encoding="utf-8")
    return Repository(tmp_path)


def test_what_the_file_does_not_say_has_a_default(repository: Repository) -> None:
    settings = read_settings(repository, {})
    assert settings.server.port == 9000
    assert settings.server.host == "127.0.0.1"
    assert settings.launch_date == dt.date(2027, 3, 1)


def test_the_environment_comes_before_the_file(repository: Repository) -> None:
    environ = {
        "MODEL_SERVICE_SERVER__PORT": "0",
        "MODEL_SERVICE_NAME": "123",
        "MODEL_SERVICE_LIMITS__SECONDS_PER_REQUEST": "0.5",
        "HOME": "/nowhere",
    }
    settings = read_settings(repository, environ)
    assert settings.server.port == 0
    assert settings.name == "123"
    assert settings.limits.seconds_per_request == 0.5


@pytest.mark.parametrize("setting", setting_names())
def test_each_setting_has_a_variable_of_its_own(setting: str) -> None:
    variables = [variable_of(name) for name in setting_names()]
    assert variables.count(variable_of(setting)) == 1


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"MODEL_SERVICE_PROT": "1"}, "MODEL_SERVICE_PROT is no setting"),
        ({"MODEL_SERVICE_SERVER__PROT": "1"}, "Did you mean MODEL_SERVICE_SERVER__PORT?"),
        ({"MODEL_SERVICE_SERVER__PORT": "many"}, "MODEL_SERVICE_SERVER__PORT"),
        ({"MODEL_SERVICE_SERVER__PORT": "70000"}, "<= 65535"),
        ({"MODEL_SERVICE_SERVER__DRAIN_SECONDS": ".inf"}, "<= 86400"),
        ({"MODEL_SERVICE_SERVER__DRAIN_SECONDS": ".nan"}, ">= 0"),
        ({"MODEL_SERVICE_LIMITS__QUEUE_SECONDS": ".inf"}, "<= 86400"),
        ({"MODEL_SERVICE_SERVER__PORT": "["}, "MODEL_SERVICE_SERVER__PORT is not understood"),
        ({"MODEL_SERVICE_LAUNCH_DATE": "2026-13-01"}, "MODEL_SERVICE_LAUNCH_DATE is not under"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(
    repository: Repository, environ: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings(repository, environ)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\nserver: {prot: 1}\n", "Did you mean server.port?"),
        ("name: a\nlimits: {rows_per_request: 0}\n", ">= 1"),
        ("server: {}\n", "name"),
        ("- a\n", "must hold settings"),
        ("name: [\n", "cannot be read"),
        ("name: a\nlaunch_date: 2026-13-01\n", "cannot be read: line 2"),
        ("", "must hold settings"),
    ],
)
def test_a_wrong_file_is_refused_with_its_path(
    repository: Repository, text: str, said: str
) -> None:
    repository.service_file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        read_settings(repository, {})
    assert said in str(refused.value)
    assert str(repository.service_file) in str(refused.value)


def test_a_repository_is_found_from_any_folder_of_it(repository: Repository) -> None:
    deep = repository.root / "models" / "churn"
    deep.mkdir(parents=True)
    (deep / "contract.yaml").touch()
    assert find_repository(deep).root == repository.root.resolve()
    assert find_repository(deep).model_names() == ["churn"]


def test_outside_of_a_repository_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="--repository"):
        find_repository(tmp_path)
