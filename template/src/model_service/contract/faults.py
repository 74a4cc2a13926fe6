"""What is wrong with a contract: where it stands, and what would be right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec


class ContractFault(msgspec.Struct, frozen=True):
    """One fault. `field` is its path in the file, such as `features.island.on_unknown`."""

    path: Path
    line: int
    field: str
    message: str
    cure: str

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        return f"{self.path}:{self.line}: {field}{self.message} {self.cure}".rstrip()


class ContractError(Exception):
    """A contract that cannot be used. `faults` has every fault, not only the first."""

    def __init__(self, faults: Sequence[ContractFault]) -> None:
        self.faults = sorted(faults, key=lambda fault: fault.line)
        super().__init__("\n".join(map(str, self.faults)))
