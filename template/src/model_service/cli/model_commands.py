"""The command for a model's folder: `new`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_service.cli.terminal import literal, say, state

if TYPE_CHECKING:
    from model_service.repository import Repository

PANEL = "Models"


def add_to(app: typer.Typer) -> None:
    """Add this command to the service's command."""
    app.command("new", rich_help_panel=PANEL)(new)


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
    if data is not None:
        say(f"  A copy of your data is in data/, for {name}'s train.py: git would keep it as well.")
        say("  Does it belong there? If not, add a line to .gitignore.")
    say("\nNext:")
    say(f"  1. Read and correct [bold]models/{name}/contract.yaml[/].")
    if data is None:
        say(f"  2. Put your data where [bold]models/{name}/train.py[/] looks for it.")
    else:
        say(f"  2. Choose the estimator and the gates in [bold]models/{name}/train.py[/].")
    say(f"  3. [bold]{context.find_root().info_name} train {name}[/]")
