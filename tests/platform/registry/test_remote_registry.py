"""Versions at an S3 server: whole or not there, never replaced, whatever happens on the way."""

from __future__ import annotations

import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from model_service.effective_settings import masked
from model_service.registry.inputs import InputLayout
from model_service.registry.manifest import MANIFEST, SEAL, GitState, Manifest, read_manifest
from model_service.registry.registry import Registry
from model_service.registry.remote_registry import RemoteError, RemoteRegistry
from model_service.repository import Repository
from tests.platform.commands.command import command
from tests.platform.registry.s3_server import ACCOUNT, BUCKET, CutWay, bucket, s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEGABYTE = 1024 * 1024
LARGE = 10 * MEGABYTE


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture
def place(port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A place of its own in the bucket, reached directly."""
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def way(port: int, place: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[CutWay]:
    """The same place, over a way that can be cut."""
    assert place
    way = CutWay(port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{way.port}")
    yield way
    way.close()


@pytest.fixture
def mine(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "mine")


@pytest.fixture
def yours(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "yours")


def write_version(registry: Registry, size: int = 1000, seed: int = 0, **changes: Any) -> Path:
    """Write a version of `fruit` whose model file holds `size` bytes by chance."""
    manifest = Manifest(
        model="fruit",
        version="",
        created_at="2026-01-01T00:00:00Z",
        contract_version="1.0",
        format="onnx",
        model_file="model.onnx",
        inputs=InputLayout(("weight",), ()),
        classes=(),
        metrics={},
        baseline={},
        gates=(),
        parity=None,
        rows={},
        data_sha256="",
        seed=seed,
        git=GitState(None, False),
        libraries={},
    )
    with registry.incoming("fruit") as folder:
        (folder / "model.onnx").write_bytes(_by_chance(seed, size))
        (folder / "features.py").write_text(f"# {seed}\n")
        whole = registry.publish(folder, msgspec.structs.replace(manifest, **changes))
    return registry.folder("fruit", whole.version)


def _by_chance(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - data, no secret


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def object_of(port: int, place: str, name: str) -> Any:
    """Return the object called `name` of the only version there."""
    prefix = place.removeprefix(f"s3://{BUCKET}/")
    found: Any = bucket(port).objects
    (one,) = [o for o in found.filter(Prefix=prefix) if o.key.endswith(name)]
    return one


def test_a_version_comes_back_as_it_was_pushed(place: str, mine: Registry, yours: Registry) -> None:
    pushed, remote = write_version(mine), RemoteRegistry(place)
    assert remote.push(pushed)
    assert not remote.push(pushed)
    assert remote.versions() == [("fruit", "1")]
    assert remote.pull(yours, "fruit", "1")
    assert not remote.pull(yours, "fruit", "1")
    assert content(yours.folder("fruit", "1")) == content(pushed)
    assert [path.name for path in (yours.path / "fruit").iterdir() if path.is_dir()] == ["1"]


def test_a_number_that_came_from_elsewhere_is_never_given_again(
    tmp_path: Path, mine: Registry, yours: Registry
) -> None:
    remote = RemoteRegistry(f"file://{tmp_path}/share")
    for seed in range(3):
        remote.push(write_version(mine, seed=seed))
    for number in ("3", "1"):  # an older number that comes later takes nothing back
        remote.pull(yours, "fruit", number)
        shutil.rmtree(yours.folder("fruit", number))
    assert write_version(yours, seed=9).name == "4"


def test_a_version_without_its_seal_does_not_exist(
    port: int, place: str, mine: Registry, yours: Registry
) -> None:
    pushed, remote = write_version(mine), RemoteRegistry(place)
    remote.push(pushed)
    object_of(port, place, SEAL).delete()
    assert remote.versions() == []
    with pytest.raises(RemoteError, match="There: none"):
        remote.pull(yours, "fruit", "1")
    assert remote.push(pushed)
    assert remote.pull(yours, "fruit", "1")


def test_another_version_of_the_same_number_is_never_overwritten(
    place: str, mine: Registry, yours: Registry, tmp_path: Path
) -> None:
    remote = RemoteRegistry(place)
    remote.push(write_version(mine, seed=1))
    other = write_version(yours, seed=2)
    with pytest.raises(RemoteError, match="never overwritten"):
        remote.push(other)
    with pytest.raises(RemoteError, match="another version than number 1"):
        remote.pull(yours, "fruit", "1")
    third = Registry(tmp_path / "third")
    remote.pull(third, "fruit", "1")
    assert content(third.folder("fruit", "1")) == content(mine.folder("fruit", "1"))


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_of_some_that_push_at_once_exactly_one_wins(place: str, kind: str, tmp_path: Path) -> None:
    url = place if kind == "s3" else f"file://{tmp_path}/share"
    folders = [
        write_version(Registry(tmp_path / name), 200_000, seed)
        for seed, name in enumerate(("one", "two", "three"))
    ]
    start = threading.Barrier(len(folders))

    def push(folder: Path) -> str:
        remote = RemoteRegistry(url)
        start.wait()
        try:
            remote.push(folder)
        except RemoteError as error:
            return str(error)
        return read_manifest(folder).files["model.onnx"]

    with ThreadPoolExecutor(len(folders)) as pool:
        ends = list(pool.map(push, folders))
    winners = [end for end in ends if "never overwritten" not in end]
    third = Registry(tmp_path / "reader")
    assert RemoteRegistry(url).pull(third, "fruit", "1")
    assert winners == [read_manifest(third.folder("fruit", "1")).files["model.onnx"]]


def test_a_push_that_is_cut_off_leaves_no_version_and_goes_on(
    place: str, way: CutWay, mine: Registry, yours: Registry
) -> None:
    small, large = write_version(mine), write_version(mine, LARGE)
    remote = RemoteRegistry(place)
    remote.push(small)
    way.budget = LARGE / 2
    with pytest.raises(RemoteError, match="goes on from there"):
        remote.push(large)
    way.budget = float("inf")
    assert remote.versions() == [("fruit", "1")]
    assert remote.push(large)
    sent = way.passed
    assert remote.push(large) is False
    assert way.passed - sent < MEGABYTE
    remote.pull(yours, "fruit", "2")
    assert content(yours.folder("fruit", "2")) == content(large)


def test_a_pull_that_is_cut_off_leaves_no_version_and_goes_on(
    place: str, way: CutWay, mine: Registry, yours: Registry
) -> None:
    pushed = write_version(mine, LARGE)
    RemoteRegistry(place).push(pushed)
    way.budget = LARGE * 0.6
    with pytest.raises(RemoteError, match="goes on from there"):
        RemoteRegistry(place).pull(yours, "fruit", "1")
    assert yours.versions("fruit") == []
    assert yours.models() == []
    way.budget, way.passed = float("inf"), 0
    assert RemoteRegistry(place).pull(yours, "fruit", "1")
    assert way.passed < LARGE * 0.65
    assert content(yours.folder("fruit", "1")) == content(pushed)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "longer", "gone"])
def test_a_damaged_object_is_never_served(
    port: int, place: str, mine: Registry, yours: Registry, damage: str
) -> None:
    pushed, remote = write_version(mine), RemoteRegistry(place)
    remote.push(pushed)
    there = object_of(port, place, "model.onnx")
    was = there.get()["Body"].read()
    if damage == "gone":
        there.delete()
    else:
        flipped = bytes([was[0] ^ 1]) + was[1:]
        there.put(Body={"truncated": was[:500], "flipped": flipped, "longer": was + b"x"}[damage])
    with pytest.raises(RemoteError, match=r"model\.onnx is"):
        remote.pull(yours, "fruit", "1")
    assert yours.versions("fruit") == []
    if damage == "flipped":  # as the message says: only a reader can tell
        there.delete()
    remote.push(pushed)
    remote.pull(yours, "fruit", "1")
    assert content(yours.folder("fruit", "1")) == content(pushed)


def test_a_version_that_was_changed_here_is_not_pushed(place: str, mine: Registry) -> None:
    pushed = write_version(mine)
    (pushed / "model.onnx").chmod(0o644)
    (pushed / "model.onnx").write_bytes(b"something else")
    with pytest.raises(Exception, match="not what was trained"):
        RemoteRegistry(place).push(pushed)
    assert RemoteRegistry(place).versions() == []


def test_a_manifest_cannot_write_outside_of_its_version(
    place: str, mine: Registry, yours: Registry, port: int
) -> None:
    from hashlib import sha256

    pushed = write_version(mine)
    manifest = read_manifest(pushed)
    evil = msgspec.structs.replace(manifest, files={"../../evil.py": sha256(b"evil").hexdigest()})
    text = msgspec.json.encode(evil)
    digest = sha256(text).hexdigest()
    prefix = place.removeprefix(f"s3://{BUCKET}/") + "/fruit/1"
    target: Any = bucket(port)
    target.put_object(Key=f"{prefix}/{SEAL}", Body=f"{digest}  {MANIFEST}\n".encode())
    target.put_object(Key=f"{prefix}/{digest}/{MANIFEST}", Body=text)
    target.put_object(Key=f"{prefix}/evil.py", Body=b"evil")
    with pytest.raises(Exception, match="outside"):
        RemoteRegistry(place).pull(yours, "fruit", "1")
    assert not list(yours.path.rglob("evil.py"))


def test_a_password_in_an_address_that_takes_none_is_refused_and_not_printed() -> None:
    with pytest.raises(RemoteError, match="environment") as refused:
        RemoteRegistry("s3://user:secret@bucket/acme")
    assert "secret" not in str(refused.value)


def test_a_library_that_is_missing_is_named_with_what_installs_it() -> None:
    with pytest.raises(RemoteError) as refused:
        RemoteRegistry("gs://bucket/acme")
    told = str(refused.value)
    assert told.startswith("gs://bucket/acme: Please install gcsfs")
    assert "-e '.[remote]'`, and gcsfs beside it for gs://" in told


def test_a_place_that_does_not_answer_is_named_without_its_password() -> None:
    assert masked("abfs://key:pass@host/x") == "abfs://key:***@host/x"
    with pytest.raises(RemoteError, match=r"nosuch://u:\*\*\*@host"):
        RemoteRegistry("nosuch://u:secret@host/x")
    # What a library says of it may name the whole URL again.
    with pytest.raises(RemoteError) as refused:
        RemoteRegistry("http://u:p@ss:1@127.0.0.1:1/x").versions()
    assert "u:***@127.0.0.1" in str(refused.value)
    assert "ss:1" not in str(refused.value)


def test_the_commands_push_and_pull_what_answers(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "service"
    root.mkdir()
    (root / "service.yaml").write_text(f"name: small\nstores: {{remote_registry: '{place}'}}\n")
    repository = Repository(root)
    registry = Registry(root / "registry")
    for seed in range(3):
        write_version(registry, seed=seed)
    (root / "traffic.yaml").write_text("models:\n  fruit: {champion: '2', shadows: ['3']}\n")
    pushed = command(repository, "push", "--all", "--json")
    assert pushed.returncode == 0, pushed.stderr
    assert [line["pushed"] for line in msgspec.json.decode(pushed.stdout)] == [True] * 3
    monkeypatch.setenv("MODEL_SERVICE_STORES__REGISTRY", "elsewhere")
    pulled = command(repository, "pull")
    assert "fruit version 2 pulled" in pulled.stdout, pulled.stderr
    assert Registry(root / "elsewhere").versions("fruit") == ["2", "3"]
    again = command(repository, "pull", "fruit")
    assert "fruit version 1 pulled" in again.stdout
    assert "fruit version 2 was here already" in again.stdout
    monkeypatch.setenv("MODEL_SERVICE_STORES__REMOTE_REGISTRY", "")
    assert "stores.remote_registry" in command(repository, "pull").stderr
