"""A reader of a file sees the old bytes or the new ones, never a half."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from model_service.files import FileError, read_yaml, sha256_of, write_atomically
from tests.rendering import ROOT

if TYPE_CHECKING:
    from pathlib import Path

WRITE_FOR_EVER = """
import sys
from pathlib import Path
from model_service.files import write_atomically
path = Path(sys.argv[1])
while True:
    for letter in (b"a", b"b"):
        write_atomically(path, letter * 1_000_000)
        print(flush=True)
"""


def test_a_killed_writer_leaves_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "traffic.yaml"
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, str(path)],
            env=os.environ | {"PYTHONPATH": str(ROOT / "template/src")},
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        for _ in range(3):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        content = path.read_bytes()
        assert content in (b"a" * 1_000_000, b"b" * 1_000_000)


def test_what_a_link_leads_to_is_replaced_and_not_the_link(tmp_path: Path) -> None:
    shared, path = tmp_path / "shared.yaml", tmp_path / "traffic.yaml"
    shared.write_bytes(b"old")
    path.symlink_to(shared)
    write_atomically(path, b"new")
    assert path.is_symlink()
    assert shared.read_bytes() == b"new"


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "traffic.yaml"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: {c: 2, c: 3}\n", "line 2: 'c' stands here a second time"),
        ("a: 1\nday: 2026-13-01\n", "line 2: '2026-13-01' is not understood"),
        ("a: !!int x\n", "line 1: 'x' is not understood"),
        ("a: !!bool x\n", "line 1: 'x' is not understood"),
        ("a: !!timestamp x\n", "line 1: 'x' is not understood"),
        ("a:\n\tb: 1\n", "line 2: found character '\\t'"),
        ("a: 1\nb: [\n", "line 3:"),
        ("a: !!python/name:os.system {}\n", "line 1: could not determine a constructor"),
        ('a: "\\ud800"\n', "line 1: '\\ud800' is not understood"),
        ("[" * 5000, "recursion"),
        ("a: \udcff", "utf-8"),
    ],
)
def test_yaml_that_cannot_be_meant_is_refused_with_its_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "service.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(FileError) as refused:
        read_yaml(path)
    assert str(refused.value).startswith(f"{path} cannot be read: ")
    assert said in str(refused.value)


def test_yaml_may_use_a_part_again_and_replace_some_of_it(tmp_path: Path) -> None:
    path = tmp_path / "service.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert read_yaml(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


def test_the_digest_is_the_one_of_sha256sum(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"bytes")
    assert sha256_of(path) == hashlib.sha256(b"bytes").hexdigest()
