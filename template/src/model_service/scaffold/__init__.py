"""What a new model starts from; `models/.scaffold/` replaces these files by the team's own."""
