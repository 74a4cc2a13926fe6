"""`import`: a version from a file that was trained elsewhere."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_service.cli.terminal import command_line, literal, say, say_json, state, stop
from model_service.cli.version_commands import PANEL, AsJson, champion_of

if TYPE_CHECKING:
    from model_service.repository import Repository


def add_to(app: typer.Typer) -> None:
    """Add this command to the service's command."""
    app.command("import", rich_help_panel=PANEL)(import_file)


def import_file(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model, new or known.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Rows as the model takes them, CSV or Parquet, that it was not fitted on.",
            exists=True,
            dir_okay=False,
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Argument(help="An .onnx, .skops, .joblib or .pkl file.", dir_okay=False),
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option("--mlflow", help="Instead of a file: models:/name@alias, at MLflow."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="The column of what was true. Default: the output's name."),
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option("--allow-pickle", help="Load a file that runs code when it is loaded."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a version from a file trained elsewhere, once it answers as the file does."""
    from model_service.training.importing import import_model
    from model_service.training.mlflow_registry import fetch_model

    repository: Repository = context.obj
    if (file is None) == (mlflow is None):
        stop("Name a file, or a model of MLflow: --mlflow models:/name@alias.")
    with tempfile.TemporaryDirectory() as folder:
        version = import_model(
            repository,
            name,
            file or fetch_model(mlflow or "", Path(folder)),
            data,
            target=target,
            origin=mlflow,
            allow_pickle=allow_pickle,
            report=lambda step: None if as_json else say(f"  [dim]·[/] {literal(step)}"),
        )
    if as_json:
        say_json(version)
        return
    say(f"{state(True)} version {version.version} ({version.format}): {literal(version.folder)}")
    champion = champion_of(repository, name)
    if champion != version.version:
        promote = command_line(f"promote {name} {version.version}")
        say(f"    Version {champion} still answers. To change that: {promote}.")
