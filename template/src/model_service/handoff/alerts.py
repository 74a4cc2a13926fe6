"""The alert rules of `monitoring/rules/`, as the proofs read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from model_service.handoff.outcome import UnmetError

RULES = "monitoring/rules"
METRIC = re.compile(r"\bmodel_service_[a-z0-9_]+")
SUFFIXES = ("_total", "_bucket", "_count", "_sum", "_created", "_info")


def rule_files(root: Path) -> list[Path]:
    """Return the files of rules; there must be one."""
    files = sorted((root / RULES).glob("*.yaml"))
    if not files:
        raise UnmetError(f"{RULES} has no rules")
    return files


def rules_of(root: Path) -> list[dict[str, Any]]:
    """Return every rule."""
    try:
        documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in rule_files(root)]
        return [rule for each in documents for group in each["groups"] for rule in group["rules"]]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UnmetError(f"{RULES}: not understood: {error}") from None


def alerts_of(root: Path) -> dict[str, dict[str, Any]]:
    """Return every alert by its name."""
    return {rule["alert"]: rule for rule in rules_of(root) if "alert" in rule}


def metrics_in(text: str) -> set[str]:
    """Return the names of the service's metrics in expressions, as families: without suffixes."""
    return {family_of(name) for name in METRIC.findall(text)}


def family_of(name: str) -> str:
    """Return the family that a sample belongs to."""
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name
