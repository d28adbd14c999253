"""Shows the run in MLflow: on a server, or in a database."""

import json
import os
import posixpath
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from reprise.callbacks import Outcome
from reprise.config import PositiveFloat
from reprise.config.secrets import without_users
from reprise.errors import InputError, TemporaryTrackerError
from reprise.files.atomic_file import write_json
from reprise.files.json_file import read_object
from reprise.runs.metrics_log import MetricEntry
from reprise.runs.run_directory import RunDirectory
from reprise.trackers.base import held, parameters
from reprise.trackers.server import ServerTracker

_TOKEN, _LAST_STEP = "reprise.run", "reprise.last_step"
_MAX_METRICS, _MAX_PARAMETERS, _MAX_KEY, _MAX_VALUE = 1000, 100, 250, 500  # in one request, in characters
_SQLITE = "sqlite:///"
_STATUS = {"completed": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MLflow(ServerTracker):
    """`tracking_uri`: a server or a database; None is as MLFLOW_TRACKING_URI says, or else a database in `output_dir`.

    User and password are those of MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or of a token. The last step
    sent is a tag of the run there, written together with the metrics; a metric that arrives twice is kept once, since
    it has the time at which its line was logged.
    """

    package = "mlflow"

    def __init__(
        self,
        experiment: str,
        tracking_uri: str | None = None,
        seconds_at_end: PositiveFloat = 60.0,
        seconds_when_stopped: PositiveFloat = 10.0,
    ) -> None:
        if tracking_uri is not None:
            _check(tracking_uri)
        super().__init__(seconds_at_end, seconds_when_stopped)
        self._experiment = experiment
        self._uri = tracking_uri

    def folder(self, directory: RunDirectory) -> Path:
        return directory.mlflow

    def open(self, directory: RunDirectory) -> int:
        # By itself the client would try for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow

        self._mlflow = mlflow
        output_dir = directory.path.resolve().parents[2]
        uri = self._uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{output_dir / 'mlflow.db'}"
        database = Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None
        # Processes that make a database at the same time destroy it for one another.
        with held(database.with_name(f".{database.name}.lock")) if database else nullcontext():
            self._client = mlflow.MlflowClient(uri)
            # Without a server, files would go into the current directory.
            experiment_id = self._find_experiment((output_dir / "mlflow_artifacts").as_uri() if database else None)
        found = self._find_run(directory, experiment_id, without_users(uri))
        self._run_id = found.info.run_id
        self._client.update_run(self._run_id, status="RUNNING")
        self._log_parameters(parameters(directory), found.data.params)
        return int(found.data.tags.get(_LAST_STEP, -1))

    def send(self, entries: Sequence[MetricEntry]) -> None:
        metrics = [metric for entry in entries for metric in self._metrics(entry)]
        for start in range(0, len(metrics), _MAX_METRICS):
            is_last = start + _MAX_METRICS >= len(metrics)
            tags = [self._mlflow.entities.RunTag(_LAST_STEP, str(entries[-1].step))] if is_last else []
            self._client.log_batch(self._run_id, metrics=metrics[start : start + _MAX_METRICS], tags=tags)

    def finish(self, outcome: Outcome, results: MetricEntry | None, files: Sequence[Path]) -> None:
        if results is not None:
            self._client.log_batch(self._run_id, metrics=self._metrics(results))
        for path in files:
            self._client.log_artifact(self._run_id, str(path))
        self._client.set_terminated(self._run_id, _STATUS[outcome])

    def _metrics(self, entry: MetricEntry) -> list[Any]:
        milliseconds, metric = round(1000 * entry.seconds), self._mlflow.entities.Metric
        return [metric(key(name), value, milliseconds, entry.step) for name, value in entry.metrics.items()]

    def _find_experiment(self, artifact_root: str | None) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            with suppress(self._mlflow.exceptions.MlflowException):  # another run may have been faster
                return str(self._client.create_experiment(self._experiment, artifact_location=artifact_root))
            found = self._client.get_experiment_by_name(self._experiment)
        if found is None or found.lifecycle_stage == "deleted":
            raise TemporaryTrackerError(f"the experiment {self._experiment!r} cannot be made, or was deleted there")
        return str(found.experiment_id)

    def _find_run(self, directory: RunDirectory, experiment_id: str, server: str) -> Any:
        record = directory.mlflow / "run.json"
        kept = read_object(record)
        if kept.get("server") != server:
            # Kept before the run is made there: if this process is killed in between, the run is found again.
            kept = {"server": server, "token": secrets.token_hex(16)}
            write_json(record, kept)
        found = self._client.search_runs([experiment_id], filter_string=f"tags.`{_TOKEN}` = '{kept['token']}'")
        sweep_id = read_object(directory.config).get("sweep_id")
        tags = {_TOKEN: kept["token"]} | ({"sweep_id": sweep_id} if sweep_id else {})
        there = found[0] if found else self._client.create_run(experiment_id, run_name=directory.run_id, tags=tags)
        write_json(record, kept | {"run_id": there.info.run_id})
        return there

    def _log_parameters(self, values: Mapping[str, Any], known: Mapping[str, str]) -> None:
        """Parameters never change there; what a resumed run has changed becomes a tag."""
        texts = {key(name): _text(value) for name, value in values.items()}
        new = [self._mlflow.entities.Param(name, text) for name, text in texts.items() if name not in known]
        for start in range(0, len(new), _MAX_PARAMETERS):
            self._client.log_batch(self._run_id, params=new[start : start + _MAX_PARAMETERS])
        for name, text in texts.items():
            if known.get(name, text) != text:
                self._client.set_tag(self._run_id, f"changed.{name}", text)


def key(name: str) -> str:
    """Return a name with the characters that MLflow takes: `precision@5` is `precision_at_5` there."""
    name = name.replace("@", "_at_").replace("%", "_percent").replace("=", "_is_")
    name = posixpath.normpath(re.sub(r"[^\w\-. :/]", "_", name).strip("/"))
    return re.sub(r"^\.+(/|$)", r"_\1", name)[:_MAX_KEY]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 1]}…"


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
