"""Watches every version that answers, from what the prediction log holds."""
