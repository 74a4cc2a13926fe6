"""The prediction log: every answer as it was given, what became true, and the monitor's memory."""
