"""`python -m model_service` is the service's command."""

import os
import signal
import sys

if os.getpid() == 1:
    # The first process of a container is deaf to signals that nobody handles: one that is told to
    # stop while it still starts would hold up its orchestrator until it is killed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

from model_service.cli.main import main

main()
