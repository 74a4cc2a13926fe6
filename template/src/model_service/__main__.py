"""`python -m model_service` is the service's command."""

from model_service.cli.main import main

main()
