"""Commands for a model's folder: `new` and `contract`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_service.cli.terminal import (
    NOT_IN_ORDER,
    START_ONE,
    command_line,
    literal,
    say,
    say_plainly,
    state,
    stop,
)

if TYPE_CHECKING:
    from model_service.contract.contract import Contract
    from model_service.repository import Repository

PANEL = "Models"
DataFile = Annotated[
    Path, typer.Argument(metavar="DATA", help="A CSV or Parquet file.", exists=True, dir_okay=False)
]
Target = Annotated[str, typer.Option("--target", help="The column that the model predicts.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the service's command."""
    contract = typer.Typer(no_args_is_help=True, help="Draft a model's contract, or check it.")
    contract.command("infer")(infer)
    contract.command("check")(check)
    app.command("new", rich_help_panel=PANEL)(new)
    app.add_typer(contract, name="contract", rich_help_panel=PANEL)


def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The model's name, such as customer_churn.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Draft the contract from this CSV.", exists=True),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="The column that the model predicts.")
    ] = None,
) -> None:
    """Start a model: its folder, with a contract drafted from your data."""
    from model_service.new_model import start_model

    repository: Repository = context.obj
    started = start_model(repository, name, data, target)
    say(f"{state(True)} models/{name} is there:")
    for path in started:
        say(f"    {literal(path.relative_to(repository.root))}")
    say("\nNext:")
    say(f"  1. Read and correct [bold]models/{name}/contract.yaml[/].")
    if data is None:
        say(f"  2. Put your data where [bold]models/{name}/train.py[/] looks for it.")
    else:
        say(f"  2. Choose the estimator and the gates in [bold]models/{name}/train.py[/].")
    say(f"  3. [bold]{context.find_root().info_name} train {name}[/]")


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
                say(f"{state(None)} {name}: who would announce a change of {', '.join(unknown)}?")
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
