"""What is said when a run fails and neither the user's input nor anybody's code is to blame."""


class RunFailure(Exception):
    """One message says what failed and what is still whole; no traceback is shown; the exit code is 1."""
