"""What is said when something does not come about and neither the user's input nor anybody's code is to blame."""


class Failure(Exception):
    """One message says what failed and what is still whole; no traceback is shown; the exit code is 1."""
