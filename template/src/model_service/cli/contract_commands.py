"""Commands for contracts: draft one, check them, compare them, and hand them over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_service.cli.handoff_files_commands import OnlyCheck, write_or_check
from model_service.cli.terminal import (
    NOT_IN_ORDER,
    START_ONE,
    command_line,
    literal,
    say,
    say_json,
    say_plainly,
    say_table,
    state,
    stop,
)

if TYPE_CHECKING:
    from model_service.contract.contract import Contract
    from model_service.handoff.contract_diff import ModelDiff
    from model_service.repository import Repository

PANEL = "Models"
DataFile = Annotated[
    Path, typer.Argument(metavar="DATA", help="A CSV or Parquet file.", exists=True, dir_okay=False)
]
Target = Annotated[str, typer.Option("--target", help="The column that the model predicts.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the service's command."""
    contract = typer.Typer(
        no_args_is_help=True, help="Draft a model's contract, check it, compare it, hand it over."
    )
    contract.command("infer")(infer)
    contract.command("check")(check)
    contract.command("diff")(diff)
    contract.command("export")(export)
    app.add_typer(contract, name="contract", rich_help_panel=PANEL)


def infer(
    data: DataFile,
    target: Target,
    name: Annotated[str | None, typer.Option("--name", help="Default: the file's name.")] = None,
) -> None:
    """Draft a contract from data and print it; you correct it, and review it with others."""
    from model_service.contract.inference import draft_contract

    say_plainly(draft_contract(data, target, name or data.stem).rstrip("\n"))


def check(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: every model.")
    ] = None,
) -> None:
    """Read the contracts and explain each fault: file, line, and what would be right."""
    from model_service.contract.reading import ContractError, read_contract

    repository: Repository = context.obj
    chosen = names or repository.model_names()
    faults = 0
    for name in chosen:
        path = repository.model_folder(name) / "contract.yaml"
        if not path.is_file():
            stop(f"{path} is not there. Models: {', '.join(repository.model_names()) or 'none'}.")
        try:
            contract = read_contract(path)
        except ContractError as error:
            faults += len(error.faults)
            say(f"{state(False)} [bold]{name}[/]")
            say(literal(error))
        else:
            say(f"{state(True)} [bold]{name}[/] {len(contract.features)} features")
            unknown = _features_of_unknown_source(contract)
            if unknown:
                listed = literal(", ".join(unknown))
                say(f"{state(None)} {name}: who would announce a change of {listed}?")
                say('    Their source says "?". Ask, and write down the system and its owner.')
    if not chosen:
        say(f"{state(None)} No model yet. Start one: {command_line(START_ONE)}.")
    if faults:
        raise SystemExit(NOT_IN_ORDER)


def _features_of_unknown_source(contract: Contract) -> list[str]:
    return [
        feature.name
        for feature in contract.features
        if feature.source and "?" in (feature.source.system, feature.source.owner)
    ]


def diff(
    context: typer.Context,
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="A file, a folder, or a state of git: main, v1.2.")
    ],
    new: Annotated[
        str | None, typer.Argument(metavar="[NEW]", help="Default: models/ as it stands.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As a comment for a pull request.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For another program.")] = False,
) -> None:
    """Name what a change of contracts breaks, and what it does not.

    Ends with 1 if callers break and the first number of contract_version does not say so.
    """
    from model_service.handoff.contract_diff import as_markdown, compare, contracts_at

    repository: Repository = context.obj
    before = contracts_at(old, repository)
    diffs = compare(before, contracts_at(new or str(repository.root), repository))
    if as_json:
        say_json({"is_announced": all(each.is_announced for each in diffs), "models": diffs})
    elif markdown:
        say_plainly(as_markdown(diffs).rstrip("\n"))
    else:
        _show_diffs(diffs)
    if not all(each.is_announced for each in diffs):
        raise SystemExit(NOT_IN_ORDER)


def _show_diffs(diffs: list[ModelDiff]) -> None:
    from model_service.handoff.contract_diff import verdict_of

    if not diffs:
        say(f"{state(True)} The contracts are the same for everybody who calls.")
    for each in diffs:
        good = True if not each.breaking else None if each.is_announced else False
        say(f"{state(good)} [bold]{each.model}[/] {literal(verdict_of(each))}")
        ordered = sorted(each.changes, key=lambda change: not change.breaks)
        say_table(
            ("", "where", "what"),
            [
                (
                    "[red]breaks[/]" if change.breaks else "harmless",
                    literal(change.field),
                    literal(change.text),
                )
                for change in ordered
            ],
        )


def export(
    context: typer.Context,
    only_check: OnlyCheck = False,
) -> None:
    """Write handoff/contract/: what backend builds against, and signs."""
    from model_service import settings as of
    from model_service.contract.reading import ContractError
    from model_service.handoff.bundle import bundle_folder, contracts_in, make_bundle

    repository: Repository = context.obj
    try:
        contracts = contracts_in(repository)
    except ContractError as error:
        stop(str(error))
    # The environment of whoever exports is not part of what is promised.
    bundle = make_bundle(of.read_settings(repository, {}), contracts)
    folder = bundle_folder(repository)
    write_or_check(folder, bundle, repository, command="contract export", only_check=only_check)
