"""A root file system with Python, pip and a shell, from the files of this machine.

No registry can be asked where these tests run. It stands for the official image of Python, and has
as little as that has: what a wheel needs besides must come with the wheel.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

NAME = f"python{sys.version_info.major}.{sys.version_info.minor}"
LEFT_OUT = ("__pycache__", "site-packages", "test", "tests", "idlelib", "tkinter", "turtledemo")
LEFT_OUT_TOO = ("_tkinter.*", "config-*", "lib2to3", "ensurepip")
LIBRARIES = (
    *("libstdc++.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1"),
    *("libutil.so.1", "libm.so.6", "libresolv.so.2", "libnss_dns.so.2", "libnss_files.so.2"),
)
DOCKERFILE = "FROM scratch\nCOPY . /\nENV PATH=/usr/local/bin:/usr/bin:/bin\n"


def assemble(root: Path) -> None:
    """Copy everything below `root`."""
    installed = Path(sys.base_prefix)
    library = root / "usr/local/lib" / NAME
    left_out = shutil.ignore_patterns(*LEFT_OUT, *LEFT_OUT_TOO)
    shutil.copytree(installed / "lib" / NAME, library, ignore=left_out, symlinks=True)
    pip = installed / "lib" / NAME / "site-packages/pip"
    shutil.copytree(
        pip, library / "site-packages/pip", ignore=shutil.ignore_patterns("__pycache__")
    )
    python, shell = root / "usr/local/bin" / NAME, root / "bin/sh"
    for source, target in ((installed / "bin" / NAME, python), (Path("/bin/sh"), shell)):
        target.parent.mkdir(parents=True)
        shutil.copy(source.resolve(), target)
    python.with_name("python").symlink_to(NAME)
    programs = [python, shell, *library.rglob("*.so")]
    for path in sorted({*_needed_by(programs), *_installed_libraries()}):
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for folder in ("tmp", "etc", "run", "proc", "sys", "dev", "srv"):
        (root / folder).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n", encoding="utf-8")


def _needed_by(programs: list[Path]) -> set[str]:
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"^\s.*?(/\S+\.so[.\d]*) \(0x", listed, re.MULTILINE))


def _installed_libraries() -> set[str]:
    listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True)
    lines = re.findall(r"^\t(\S+) \(libc6,.*\) => (\S+)$", listed.stdout, re.MULTILINE)
    found = dict(reversed(lines))  # the first of a name is the one that is loaded
    return {found[name] for name in LIBRARIES if name in found}
