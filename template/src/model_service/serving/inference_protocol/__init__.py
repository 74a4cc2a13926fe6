"""The Open Inference Protocol v2 over HTTP: the same models for clients that speak tensors."""
