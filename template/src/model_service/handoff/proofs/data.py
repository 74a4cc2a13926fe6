"""Proofs of the group: data."""
