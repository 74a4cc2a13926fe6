"""Few renders in which every answer to every option meets every answer to every other option."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

OPTIONS: dict[str, list[Any]] = {
    "ci": ["github", "gitlab", "none"],
    "example_models": [True, False],
    "minimum_python": ["3.11", "3.12", "3.13"],
    "launch_date": ["", "2028-02-29"],
    "deployment": [(), ("compose", "kserve"), ("kubernetes", "ray")],
    "tracker": ["github", "gitlab", "jira"],
}
ALL_ON: dict[str, Any] = {
    "ci": "github",
    "example_models": True,
    "launch_date": "2028-02-29",
    "deployment": ("compose", "kubernetes", "kserve", "ray"),
    "tracker": "github",
}
ALL_OFF: dict[str, Any] = {
    "ci": "none",
    "example_models": False,
    "minimum_python": "3.13",
    "deployment": (),
    "tracker": "linear",
}

Pair = tuple[tuple[str, Any], tuple[str, Any]]


def pairs_of(answers: dict[str, Any]) -> set[Pair]:
    """The pairs of answers that one render tries together."""
    return set(combinations(sorted(answers.items(), key=lambda item: item[0]), 2))


def pairwise(options: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Choose renders, the one that tries most new pairs first, until no pair is left."""
    every = [dict(zip(options, values, strict=True)) for values in product(*options.values())]
    missing = set().union(*(pairs_of(answers) for answers in every))
    chosen: list[dict[str, Any]] = []
    while missing:
        best = max(every, key=lambda answers: len(pairs_of(answers) & missing))
        chosen.append(best)
        missing -= pairs_of(best)
    return chosen


RENDERS = [ALL_ON, ALL_OFF, *pairwise(OPTIONS)]
