"""Answers requests over HTTP from the versions that `traffic.yaml` names."""
