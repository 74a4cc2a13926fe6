"""Whether what comes in, and what is answered, is still what the version was trained on."""
