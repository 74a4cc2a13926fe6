"""Proofs of the group: security."""
