"""The command of the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_service.cli import (
    compare_command,
    contract_commands,
    doctor_command,
    ground_truth_commands,
    handoff_commands,
    import_command,
    loadtest_command,
    model_commands,
    monitor_commands,
    remote_commands,
    replay_command,
    service_commands,
    traffic_commands,
    update_command,
    version_commands,
)
from model_service.cli.terminal import EXIT_CODES, stop
from model_service.repository import find_repository

HELP = "Many models in many versions from one service: train them, compare them, let them answer."

app = typer.Typer(
    help=HELP,
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

model_commands.add_to(app)
contract_commands.add_to(app)
version_commands.add_to(app)
import_command.add_to(app)
compare_command.add_to(app)
traffic_commands.add_to(app)
remote_commands.add_to(app)
service_commands.add_to(app)
ground_truth_commands.add_to(app)
replay_command.add_to(app)
monitor_commands.add_to(app)
handoff_commands.add_to(app)
loadtest_command.add_to(app)
doctor_command.add_to(app)
update_command.add_to(app)


@app.callback()
def repository_of(
    context: typer.Context,
    repository: Annotated[
        Path | None,
        typer.Option(
            "--repository",
            metavar="FOLDER",
            help="The service's repository, when it is not the folder you are in.",
        ),
    ] = None,
) -> None:
    if context.resilient_parsing:
        return
    context.obj = find_repository(repository)


def main() -> None:
    """Run the command; an error of the platform is printed as a sentence, not as a traceback."""
    try:
        app()
    except OSError as error:
        stop(f"{error}. Is the path right, may you read and write there, and is there room?")
    except UnicodeEncodeError as error:
        if error.reason != "surrogates not allowed":
            raise
        stop(f"{error.object[:100]!a} is not UTF-8. Type it again, or set the terminal to UTF-8.")
    except Exception as error:
        if not type(error).__module__.startswith("model_service."):
            raise
        stop(str(error))
    except KeyboardInterrupt:
        stop("stopped by you; nothing half-done is left behind.", 130)
