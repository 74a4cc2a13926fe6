"""Training: from a model's folder to a version that can be proven and served.

Nothing here is imported by a process that serves.
"""

from model_service.training.gate import Gate
from model_service.training.recipe import TrainingError
from model_service.training.training import TrainedVersion, train

__all__ = ["Gate", "TrainedVersion", "TrainingError", "train"]
