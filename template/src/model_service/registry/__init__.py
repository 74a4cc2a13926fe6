"""Trained versions: what they are made of, which of them answers, and how one is loaded."""
