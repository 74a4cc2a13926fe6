"""The service as a deployment of Ray Serve: the same app, with Ray as its door.

    serve run deploy/ray/serve.yaml

Each application of `serve.yaml` is a group of models with replicas of its own.
"""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import msgspec
from ray import serve
from ray.serve import Application
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_service.repository import find_repository
from model_service.serving.app import create_app
from model_service.settings import read_settings


def models(args: dict[str, Any]) -> Application:
    """Return an application that serves the models named in `args`, such as `churn,prices`; all of
    them if none is named."""
    names = tuple(name.strip() for name in args.get("models", "").split(",") if name.strip())
    deployment = serve.deployment(serve.ingress(lambda: _app(names))(), name="models")
    return deployment.bind()


def _app(names: tuple[str, ...]) -> ASGIApp:
    """Make the app of a replica, which starts to answer when its versions are loaded."""
    repository = find_repository(Path(__file__).parent)
    settings = read_settings(repository, os.environ)
    server = msgspec.structs.replace(settings.server, models=names or settings.server.models)
    loaded = threading.Event()
    service = create_app(
        msgspec.structs.replace(settings, server=server),
        repository,
        on_loaded=lambda _: loaded.set(),
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_when_loaded(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await asyncio.to_thread(loaded.wait)
            await send(message)

        is_lifespan = scope["type"] == "lifespan"
        await service(scope, receive, send_when_loaded if is_lifespan else send)

    return app
