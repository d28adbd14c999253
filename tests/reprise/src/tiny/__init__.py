"""The user's half of the engine's tests: data and models that train in seconds, named by `tests/reprise/configs`."""
