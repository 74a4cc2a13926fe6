"""Training: from a model's folder to a version that can be proven and served.

Nothing here is imported by a process that serves.
"""

from model_service.training.gate import Gate
from model_service.training.recipe import TrainingError
from model_service.training.training import train
from model_service.training.version_writing import TrainedVersion

__all__ = ["Gate", "TrainedVersion", "TrainingError", "train"]
