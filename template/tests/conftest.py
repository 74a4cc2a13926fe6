"""What all tests share: the versions that they are run for, and one server that answers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings

pytest.register_assert_rewrite("tests.answers")

from tests.answers import Asked, Caller  # noqa: E402
from tests.found_versions import (  # noqa: E402
    REPOSITORY,
    Found,
    addresses,
    champions,
    contracts,
    found_versions,
    registry_folder,
    traffic_with_every_version,
)
from tests.strategies import Dirt, dirt_of  # noqa: E402

READY_SECONDS = 60

settings.register_profile(
    "models",
    deadline=None,
    derandomize=True,
    max_examples=10,
    # Examples are small as they are drawn; making them smaller takes minutes over HTTP.
    phases=[Phase.explicit, Phase.generate],
    # The fixtures of one test are the same for all its examples: a version, and a running server.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("models")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test for every version, every champion, or every kind of dirt of every feature."""
    if "feature_dirt" in metafunc.fixturenames:
        cases = [case for found in found_versions() for case in _dirty_cases(found)]
        ids = [f"{found}-{name}-{dirt.kind}" if dirt else str(found) for found, name, dirt in cases]
        params = [(found, (name, dirt)) for found, name, dirt in cases]
        metafunc.parametrize(("version", "feature_dirt"), params, ids=ids, indirect=True)
    elif "version" in metafunc.fixturenames:
        metafunc.parametrize("version", found_versions(), ids=str, indirect=True)
    elif "address" in metafunc.fixturenames:
        ids = [f"{found.model}{suffix}" for found, suffix in addresses()]
        metafunc.parametrize("address", addresses(), ids=ids, indirect=True)
    elif "champion" in metafunc.fixturenames:
        metafunc.parametrize("champion", champions(), ids=str, indirect=True)
    elif "asked" in metafunc.fixturenames:
        servers = {"stub": contracts(), "caller": champions()}
        asked = [(found, by) for by, models in servers.items() for found in models]
        ids = [f"{found.model}-{'stub' if by == 'stub' else 'service'}" for found, by in asked]
        metafunc.parametrize("asked", asked, ids=ids, indirect=True)


@pytest.fixture
def version(request: pytest.FixtureRequest) -> Found:
    """A version of a model; fails if there is something to run first."""
    return _without_problem(request.param)


@pytest.fixture
def address(request: pytest.FixtureRequest) -> tuple[Found, str]:
    """A version, and what follows the name of its model in the path of those who ask for it."""
    found, suffix = request.param
    return _without_problem(found), suffix


@pytest.fixture
def champion(request: pytest.FixtureRequest) -> Found:
    """A version that answers callers who name none; fails if there is something to run first."""
    return _without_problem(request.param)


@pytest.fixture
def feature_dirt(request: pytest.FixtureRequest) -> tuple[str, Dirt]:
    """A feature of the version, and one way in which its values can be dirty."""
    case: tuple[str, Dirt] = request.param
    return case


@pytest.fixture(scope="session")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A real server, started once, that answers for every version of the registry."""
    with _server(tmp_path_factory.mktemp("service")) as client:
        yield Caller(client)


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A real server that answers from the contracts alone."""
    with _server(tmp_path_factory.mktemp("stub"), "--stub") as client:
        yield Caller(client)


@pytest.fixture
def asked(request: pytest.FixtureRequest) -> Asked:
    """A model as a consumer sees it: somewhere behind an address, trained or not."""
    found, fixture = request.param
    caller: Caller = request.getfixturevalue(fixture)
    return Asked(_without_problem(found).model, caller.client)


@contextmanager
def _server(folder: Path, *options: str) -> Iterator[httpx.Client]:
    (folder / "service.yaml").write_bytes(REPOSITORY.service_file.read_bytes())
    (folder / "models").symlink_to(REPOSITORY.models, target_is_directory=True)
    (folder / "traffic.yaml").write_text(traffic_with_every_version(), encoding="utf-8")
    log = folder / "server.log"
    command = [sys.executable, "-m", "model_service", "--repository", str(folder), "serve"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", "0", "--workers", "1", *options],
            env=os.environ | {"MODEL_SERVICE_STORES__REGISTRY": str(registry_folder())},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(base_url=_address(server, log), timeout=60, trust_env=False) as client:
            _wait_until_loaded(client, server, log)
            yield client
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _without_problem(found: Found) -> Found:
    if found.problem:
        pytest.fail(found.problem, pytrace=False)
    return found


def _dirty_cases(found: Found) -> list[tuple[Found, str, Dirt | None]]:
    if found.contract is None:
        return [(found, "", None)]
    features = found.contract.features
    return [(found, feature.name, dirt) for feature in features for dirt in dirt_of(feature)]


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    """Return where the server listens: it says so in its first line."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        said = re.search(rb"http://127\.0\.0\.1:\d+", log.read_bytes())
        if said:
            return said.group().decode()
        time.sleep(0.02)
    pytest.fail(f"The server did not start:\n{log.read_text(errors='replace')[-4000:]}")


def _wait_until_loaded(client: httpx.Client, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until no version is loading any more; one that stays out fails in its own tests."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        time.sleep(0.05)
        try:
            models = client.get("/v1/models").json()["models"]
        except httpx.ConnectError:
            continue
        if not any(each["state"] == "loading" for model in models for each in model["versions"]):
            return
    pytest.fail(f"The server did not become ready:\n{log.read_text(errors='replace')[-4000:]}")
