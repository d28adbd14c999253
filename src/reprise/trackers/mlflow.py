"""Shows the run in MLflow."""

import re
from pathlib import Path

from reprise.config import PositiveFloat
from reprise.config.secrets import without_users
from reprise.errors import InputError
from reprise.runs.run_directory import RunDirectory
from reprise.trackers.remote import RemoteTracker


class MLflow(RemoteTracker):
    """`tracking_uri`: a server or a database; None is as MLFLOW_TRACKING_URI says, or else a database in `output_dir`.

    User and password are those of MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or of a token.
    """

    package = "mlflow"
    destination = "reprise.trackers.destinations.mlflow.MLflowDestination"

    def __init__(
        self,
        experiment: str,
        tracking_uri: str | None = None,
        seconds_at_end: PositiveFloat = 60.0,
        seconds_when_stopped: PositiveFloat = 10.0,
    ) -> None:
        if tracking_uri is not None:
            _check(tracking_uri)
        super().__init__(seconds_at_end, seconds_when_stopped, experiment=experiment, tracking_uri=tracking_uri)

    def folder(self, directory: RunDirectory) -> Path:
        return directory.mlflow


def _check(uri: str) -> None:
    shown = repr(without_users(uri))
    if without_users(uri) != uri:
        raise InputError(
            f"tracker.mlflow.tracking_uri: {shown} was given with a user or a password, and a config is written down; "
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or the whole address as MLFLOW_TRACKING_URI"
        )
    if re.match(r"sqlite:(?!////)", uri):
        raise InputError(
            f"tracker.mlflow.tracking_uri: expected an absolute path, sqlite:////…, got {shown}: a relative one would "
            "be another database in each directory"
        )
    if not re.match(r"(https?|sqlite|postgresql|mysql|mssql|databricks)\b", uri):
        raise InputError(
            "tracker.mlflow.tracking_uri: expected the address of a server (http://…) or of a database (sqlite:////…), "
            f"got {shown}; MLflow no longer writes to plain directories"
        )
