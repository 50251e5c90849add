"""One machine: getting it, reaching it, using it."""
