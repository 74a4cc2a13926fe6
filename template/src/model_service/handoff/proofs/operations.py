"""Proofs of the group: operations."""
