"""Repeats a run with its recorded code, finds where the two part, and says what most likely made them."""
