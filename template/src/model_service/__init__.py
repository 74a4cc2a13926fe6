"""The platform: everything of the service that is not a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_service.training.packaging import package as package

__all__ = ["package"]


def __getattr__(name: str) -> Any:
    # `package` needs the libraries for training, and a process that serves has none of them.
    if name != "package":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from model_service.training.packaging import package

    return package
