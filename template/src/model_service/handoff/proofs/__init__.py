"""One function an item, in a module a group: each proves its item by doing the thing."""

from __future__ import annotations

from importlib import import_module

GROUPS = (
    "ownership",
    "contract",
    "data",
    "model_quality",
    "serving",
    "reliability",
    "observability",
    "security",
    "operations",
)


def load_proofs() -> None:
    """Import every module of proofs, so that `PROOFS` has them all."""
    for group in GROUPS:
        import_module(f"{__name__}.{group}")
