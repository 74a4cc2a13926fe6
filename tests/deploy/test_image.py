"""The image is really built and run, as a cluster would: locked, small, quick, hard to misuse."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from model_service.handoff.check import check
from model_service.handoff.items import items_of
from model_service.handoff.subject import Subject
from model_service.repository import Repository
from tests.deploy.base_image import DOCKERFILE, assemble
from tests.deploy.client_suite import SUITE, Answer, answers_of, assert_same
from tests.deploy.containers import BUILD_ENVIRONMENT, Container, Containers, containers
from tests.deploy.ports import free_port
from tests.platform.postgresql_server import postgresql_server
from tests.rendering import git

BASE = "localhost/python"
IMAGE = "localhost/acme-models:1"
MONITOR = "localhost/acme-models-monitor:1"
MOST_MEGABYTES = 350
OFFICIAL_BASE_MEGABYTES = 150
"""At most, unpacked; what the tests build on is smaller."""
MOST_BUILD_SECONDS = 180
MOST_SECONDS_UNTIL_READY = 3
SECONDS = 60
HOLD_A_DRILL = ("python", "-m", "model_service", "monitor", "--drill", f"--seconds={SECONDS}")
CERTIFICATES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def test_the_image_is_built_and_answers_like_the_process(
    trained: Path,
    recorded: list[Answer],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = {}
    with containers() as store:
        assemble(tmp_path / "base")
        store.build(tmp_path / "base", DOCKERFILE, BASE)
        started_at = time.monotonic()
        built = build(store, trained, tmp_path)
        assert built.returncode == 0, built.stdout[-4000:]
        figures["seconds to build"] = time.monotonic() - started_at
        figures["megabytes on the official base"] = megabytes_on_the_official_base(store)
        assert figures["seconds to build"] < MOST_BUILD_SECONDS
        assert figures["megabytes on the official base"] < MOST_MEGABYTES
        it_says_what_it_is(store)
        its_versions_answer_as_they_did_when_they_were_trained(store)
        the_handoff_sees_what_it_is_and_what_it_must_not_be(store, trained, tmp_path, monkeypatch)
        a_file_that_is_not_the_locked_one_ends_the_build(store, trained, tmp_path)
        with started(store) as (container, client):
            figures["CPU seconds until ready"] = seconds_until_ready(container, client)
            it_may_do_what_it_needs_and_nothing_else(container)
            assert_same(answers_of(str(client.base_url)), recorded)
            it_answers_until_callers_have_left(container, client)
        it_ends_at_once_while_it_still_starts(store)
    assert figures["CPU seconds until ready"] < MOST_SECONDS_UNTIL_READY
    with capsys.disabled():
        print("\nimage:", ", ".join(f"{name} {figure:.1f}" for name, figure in figures.items()))


@pytest.mark.nightly
def test_the_image_of_the_monitor_watches_what_the_image_of_the_service_logs(
    trained: Path, recorded: list[Answer], tmp_path: Path
) -> None:
    """As Compose and Kubernetes run them: two images, and PostgreSQL between them."""
    (compose,) = yaml.safe_load_all((trained / "deploy/compose/compose.yaml").read_text())
    monitor = compose["services"]["monitor"]
    requirements = monitor["build"]["args"]["REQUIREMENTS"]
    with containers() as store, postgresql_server() as database:
        assemble(tmp_path / "base")
        store.build(tmp_path / "base", DOCKERFILE, BASE)
        for variables in ((), (f"IMAGE={MONITOR}", f"REQUIREMENTS={requirements}")):
            built = build(store, trained, tmp_path, *variables)
            assert built.returncode == 0, built.stdout[-4000:]
        settings = {
            "STORES__PREDICTION_LOG": database.new_log(),
            "MONITORING__PORT": free_port(),
            "MONITORING__SECONDS_BETWEEN_RUNS": 1,
        }
        options = [f"--env=MODEL_SERVICE_{name}={value}" for name, value in settings.items()]
        with started(store, *options) as (container, client):
            seconds_until_ready(container, client)
            assert_same(answers_of(str(client.base_url)), recorded)
            options += [f"--env=MODEL_SERVICE_SERVER__PORT={client.base_url.port}"]
            options += ["--env=MODEL_SERVICE_SERVER__HOST=127.0.0.1", "--tmpfs=/tmp"]
            with store.running(MONITOR, *options, command=monitor["command"]) as watching:
                drill = watching.execute(*HOLD_A_DRILL)
        assert re.search(r"✓ monitor: \d", drill), drill


def megabytes_on_the_official_base(store: Containers) -> float:
    """Of the image of the service, if it were built on the image that the Dockerfile names."""
    image, base = (int(store.inspect(name, "{{.Size}}")) for name in (IMAGE, BASE))
    return (image - base) / 1e6 + OFFICIAL_BASE_MEGABYTES


def build(
    store: Containers, service: Path, folder: Path, *variables: str
) -> subprocess.CompletedProcess[str]:
    """`make image`, with what this machine needs to reach the package index as secrets."""
    secrets = []
    if bundle := next((os.environ[name] for name in CERTIFICATES if os.environ.get(name)), None):
        secrets.append(f"--secret id=ca,src={bundle}")
    if index := index_of_this_machine():
        (folder / "pip.conf").write_text(f"[global]\n{index}", encoding="utf-8")
        secrets.append(f"--secret id=pip_conf,src={folder}/pip.conf")
    command = ["make", "--old-file", "train", "image", f"IMAGE={IMAGE}", "VERSION=1"]
    command += [f"DOCKER={' '.join(store.buildah)}", *variables]
    command += [f"IMAGE_OPTIONS=--no-cache --build-arg BASE={BASE} {' '.join(secrets)}"]
    return subprocess.run(
        command,
        cwd=service,
        env=os.environ | BUILD_ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def index_of_this_machine() -> str:
    """The addresses of a package index that pip is told of here; files of this machine left out."""
    command = [shutil.which("pip") or "pip3", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.findall(
        r"^\S*\.((?:extra-)?index-url|proxy)='(http.*)'$", listed.stdout, re.MULTILINE
    )
    return "".join(f"{name} = {address}\n" for name, address in found)


def a_file_that_is_not_the_locked_one_ends_the_build(
    store: Containers, service: Path, folder: Path
) -> None:
    other = Path(shutil.copytree(service, folder / "other"))
    name = "deploy/requirements-train.txt"
    digest = "0" * 64
    (other / name).write_text(f"idna==3.20 --hash=sha256:{digest}\n", encoding="utf-8")
    refused = build(store, other, folder, f"REQUIREMENTS={name}", "IMAGE=localhost/other:1")
    assert refused.returncode != 0
    assert f"Expected sha256 {digest}" in refused.stdout


def it_says_what_it_is(store: Containers) -> None:
    labels = store.inspect(IMAGE, '{{index .Labels "org.opencontainers.image.title"}} {{.User}}')
    assert labels == "acme-models 10001:10001"
    assert store.inspect(IMAGE, '{{index .Labels "org.opencontainers.image.version"}}') == "1"
    revision = store.inspect(IMAGE, '{{index .Labels "org.opencontainers.image.revision"}}')
    assert re.fullmatch("[0-9a-f]{40}", revision)
    assert "/livez" in store.inspect(IMAGE, "{{.HealthCheck.Test}}")


def its_versions_answer_as_they_did_when_they_were_trained(store: Containers) -> None:
    told = store.run(IMAGE, "verify", "--all")
    assert "penguin_species version 1" in told
    assert "penguin_mass version 1" in told
    assert "telemetry" not in told.lower()


def the_handoff_sees_what_it_is_and_what_it_must_not_be(
    store: Containers, service: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SRV-1 is green for the image of this commit, red for one of root's, and green again."""
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    commit = git(service, "describe", "--tags", "--always", "--dirty").strip()
    (folder / "root").mkdir()
    store.build(folder / "root", f"FROM {IMAGE}\nUSER root\n", "localhost/root:1")
    seen = []
    for image in (IMAGE, "localhost/root:1", IMAGE):
        store.tag(image, f"localhost/acme-models:{commit}")
        with Subject(Repository(service), dt.datetime.now(dt.UTC).date()) as subject:
            (result,) = check(subject, items_of(["SRV-1"]), named=True)
        seen.append((result.state, result.line))
    assert [state for state, _ in seen] == ["pass", "fail", "pass"], seen
    assert "penguin_species version 1 answers" in seen[0][1]
    assert "runs as root" in seen[1][1]


@contextmanager
def started(store: Containers, *options: str) -> Iterator[tuple[Container, httpx.Client]]:
    port = free_port()
    settings = [
        *("--env", f"MODEL_SERVICE_SERVER__PORT={port}"),
        *("--env", "MODEL_SERVICE_SERVER__DRAIN_SECONDS=3"),
        *("--tmpfs", "/tmp", "--tmpfs", "/srv/prediction_log"),  # noqa: S108
    ]
    with (
        store.running(IMAGE, *settings, *options) as container,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client,
    ):
        yield container, client


def status_of(client: httpx.Client, path: str) -> int:
    """The status of an answer on a connection of its own; 0 while nobody answers."""
    try:
        return client.get(path, headers={"connection": "close"}).status_code
    except httpx.TransportError:
        return 0


def seconds_until_ready(container: Container, client: httpx.Client) -> float:
    """The CPU seconds that it took: on a machine with nothing else to do it is ready as soon."""
    deadline = time.monotonic() + SECONDS
    while status_of(client, "/readyz") != 200:
        assert time.monotonic() < deadline, container.log
        time.sleep(0.02)
    fields = Path(f"/proc/{container.process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def it_may_do_what_it_needs_and_nothing_else(container: Container) -> None:
    status = Path(f"/proc/{container.process}/status").read_text()
    assert re.search(r"^Uid:\s+10001\s+10001\s+10001\s+10001$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    for kind in ("Prm", "Eff", "Bnd", "Amb"):
        assert re.search(rf"^Cap{kind}:\s+0+$", status, re.MULTILINE), kind
    for path in ("/srv/new", "/srv/registry/new", "/opt/python/new", "/etc/new"):
        assert "Read-only file system" in container.execute("python", "-c", f"open({path!r}, 'w')")
    connect = "import botocore.session as b; print(b.Session().create_client('s3', 'eu-west-1'))"
    assert "S3 object" in container.execute("python", "-c", connect)
    find = "from importlib.util import find_spec; print([*map(find_spec, ('pandas', 'sklearn'))])"
    assert container.execute("python", "-c", find).strip() == "[None, None]"


def it_answers_until_callers_have_left(container: Container, client: httpx.Client) -> None:
    ask = SUITE[0]
    container.terminate()
    deadline = time.monotonic() + SECONDS
    while status_of(client, "/readyz") != 503:
        assert time.monotonic() < deadline
    left_at = time.monotonic() + 1
    while time.monotonic() < left_at:
        assert ask.ask(client)[1] == 200
    assert container.exit_code == 0


def it_ends_at_once_while_it_still_starts(store: Containers) -> None:
    """143 is what the command itself ends with before the service took over."""
    with store.running(IMAGE) as container:
        deadline = time.monotonic() + SECONDS
        status = Path(f"/proc/{container.process}/status")
        while not handles(signal.SIGTERM, status.read_text()):
            assert time.monotonic() < deadline
        container.terminate()
        assert container.exit_code == 143


def handles(number: signal.Signals, status: str) -> bool:
    caught = re.search(r"^SigCgt:\s+(\w+)$", status, re.MULTILINE)
    assert caught
    return bool(int(caught[1], 16) >> (number - 1) & 1)
