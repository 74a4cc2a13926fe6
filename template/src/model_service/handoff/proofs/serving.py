"""Proofs of the group: serving."""
