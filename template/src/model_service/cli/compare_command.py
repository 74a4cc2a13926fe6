"""`compare`: what would change for callers if another version answered."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model_service.cli.ground_truth_commands import open_log
from model_service.cli.service_commands import rows_of_file
from model_service.cli.terminal import command_line, literal, say, say_json, say_table, state, stop
from model_service.cli.version_commands import PANEL, AsJson, Name, known_model, registry_of

if TYPE_CHECKING:
    from model_service.contract.compatibility import Change
    from model_service.contract.contract import Contract
    from model_service.registry.comparison import Comparison
    from model_service.registry.loaded_version import LoadedVersion
    from model_service.repository import Repository

Rows = Annotated[
    Path | None,
    typer.Option(
        "--file",
        help="Rows to answer besides the golden ones: a JSON list, JSON lines or CSV.",
        exists=True,
        dir_okay=False,
    ),
]
Logged = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="ROWS",
        help="Answer the last so many rows of the prediction log in the place of the golden ones.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add this command to the service's command."""
    app.command("compare", rich_help_panel=PANEL)(compare)


def compare(
    context: typer.Context,
    name: Name,
    old: Annotated[str, typer.Argument(metavar="OLD", help="A version, such as the champion.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The version to compare with it.")],
    file: Rows = None,
    logged: Logged = None,
    as_json: AsJson = False,
) -> None:
    """Show where two versions answer differently, and what the new contract changes."""
    from model_service.contract.compatibility import changes
    from model_service.model_settings import read_model_settings

    repository: Repository = context.obj
    known_model(repository, name)
    before, after = (loaded(repository, name, version) for version in (old, new))
    more = rows_of_file(file, before) if file else []
    rows = logged_rows(repository, before, logged) if logged else golden_rows(before, after)
    slices = read_model_settings(repository, name).slices
    compared = comparison_of(before, after, rows + more, slices)
    found = changes(before.contract, after.contract)
    if as_json:
        say_json({"comparison": compared, "contract_changes": found})
        return
    say_comparison(before, after, compared)
    say_contract_changes(found)


def loaded(repository: Repository, name: str, version: str) -> LoadedVersion:
    """Load a version, or end the command with what is wrong with it."""
    from model_service.registry.loaded_version import VersionError, load_version

    try:
        return load_version(registry_of(repository).folder(name, version))
    except VersionError as error:
        stop(f"{name} version {version} cannot be loaded: {error}")


def golden_rows(old: LoadedVersion, new: LoadedVersion) -> list[dict[str, Any]]:
    """Return the rows of the golden predictions of both versions."""
    from model_service.registry.comparison import rows_to_compare

    return rows_to_compare(old, new)


def logged_rows(repository: Repository, old: LoadedVersion, count: int) -> list[dict[str, Any]]:
    """Return the last rows that callers sent, where the log holds them whole; end the command if
    it holds none."""
    from model_service.settings import read_settings

    settings = read_settings(repository, os.environ)
    store = open_log(repository, settings)
    found = [row for row in store.rows(old.model, None, 0, time.time(), count) if not row.shadow_of]
    store.close()
    names = set(old.contract.feature_names)
    hidden = [one.name for one in old.contract.features if one.sensitive]
    whole = [row.received for row in found if row.received and names <= (row.used or {}).keys()]
    if not whole or hidden:
        stop(
            f"Of {len(found)} logged rows of {old.model} none can be answered again"
            + (f": {', '.join(hidden)} is hashed. " if hidden else ". ")
            + "Let prediction_log.store_features keep them, or name rows with --file."
        )
    return whole


def comparison_of(
    old: LoadedVersion,
    new: LoadedVersion,
    rows: Sequence[dict[str, Any]],
    slices: Sequence[str] = (),
) -> Comparison:
    """Let both versions answer rows; end the command if one of them cannot."""
    from model_service.registry.comparison import compare as compare_versions
    from model_service.registry.loaded_version import ModelError

    try:
        return compare_versions(old, new, rows, slices)
    except ModelError as error:
        stop(f"A version gives no answer to a row that its contract accepts: {error}")


def say_comparison(old: LoadedVersion, new: LoadedVersion, compared: Comparison) -> None:
    """Print how the versions differ: how often, which decisions flip, and where."""
    say(f"[bold]{old.model}[/]: version {new.version} against version {old.version}")
    share = f"{compared.differing_share:.1%}" if compared.rows else "none"
    say(f"  {compared.rows} rows answered by both, {compared.differing} differently ({share})")
    for count, version in ((compared.only_old, old.version), (compared.only_new, new.version)):
        if count:
            say(f"  {count} rows answered by version {version} only: the other's contract refuses")
    if compared.distances:
        median, most, largest = (f"{distance:.4g}" for distance in compared.distances)
        unit = literal(old.contract.output.unit or "")
        say(f"  difference in {unit or 'value'}: median {median}, 95% {most}, largest {largest}")
    if compared.flips:
        say_table(
            (f"version {old.version}", f"version {new.version}", "rows"),
            [(literal(was), literal(now), str(count)) for was, now, count in compared.flips],
        )
    if compared.slices:
        say_table(
            ("where", "value", "differ", "of rows"),
            [
                (literal(one.feature), literal(one.value), f"{one.share:.0%}", str(one.rows))
                for one in compared.slices
            ],
        )


def say_contract_changes(changes: list[Change]) -> None:
    """Print what callers may notice of a new contract, what breaks them first."""
    for change in sorted(changes, key=lambda change: not change.breaks):
        mark = state(False) if change.breaks else state(None)
        say(f"  {mark} contract, {literal(change)}")


def refuse_to_promote(old: LoadedVersion, new: LoadedVersion, limit: float) -> str | None:
    """Print what a promotion changes; return why it should not happen, or None.

    `limit` is the largest share of decisions that may flip, between 0 and 1; of an output that is
    no class there are no decisions, and only the contract is looked at.
    """
    compared = comparison_of(old, new, golden_rows(old, new))
    say_comparison(old, new, compared)
    if reason := refuse_contract(old.contract, new.contract):
        return reason
    if old.contract.output.type == "class" and compared.differing_share > limit:
        return (
            f"{compared.differing_share:.1%} of the decisions flip, and service.yaml allows "
            f"{limit:.1%} (promotion.flipped_decisions)"
        )
    return None


def refuse_contract(old: Contract, new: Contract) -> str | None:
    """Print what a new contract changes; return why it should not be promoted, or None."""
    from model_service.contract.compatibility import changes, raises_major

    found = changes(old, new)
    say_contract_changes(found)
    if any(change.breaks for change in found) and not raises_major(old, new):
        return (
            "its contract breaks callers of the champion (see ✗ above). Mend it, or raise the "
            f"first number of contract_version ({new.contract_version}) and train again"
        )
    return None


def how_to_accept(name: str, version: str) -> str:
    """Return the command that promotes nevertheless."""
    return command_line(f"promote {name} {version} --accept")
