"""The platform: everything of the service that is not a model."""
