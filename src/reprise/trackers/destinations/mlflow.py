"""A run on a server of MLflow, or in a database of it."""

import contextlib
import fcntl
import json
import os
import posixpath
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reprise.config.secrets import without_users
from reprise.errors import TemporaryTrackerError
from reprise.files.atomic_file import write_json
from reprise.runs.metrics_log import MetricEntry
from reprise.trackers.destinations import Destination, Outcome, TrackedRun
from reprise.trackers.destinations.parameters import parameters

_TOKEN, _LAST_STEP = "reprise.run", "reprise.last_step"
_MOST_METRICS, _MOST_PARAMETERS, _LONGEST_KEY, _LONGEST_VALUE = 1000, 100, 250, 500  # in one request, in characters
_SQLITE = "sqlite:///"
_STATUS = {"completed": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
_LONGEST_REASON = 160


class MLflowDestination(Destination):
    """What was sent stands in a tag of the run there, written together with the metrics.

    A metric that arrives twice is kept once by the server, since it has the time at which its line was logged.
    """

    def __init__(self, tracking_uri: str | None, experiment: str) -> None:
        self._uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._experiment = experiment

    def prepare(self) -> None:
        # By itself the client would try for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow

        self._mlflow = mlflow

    def open(self, run: TrackedRun) -> int:
        output_dir = run.directory.path.resolve().parents[2]
        uri = self._uri or f"{_SQLITE}{output_dir / 'mlflow.db'}"
        with _told_apart(), _alone(uri):
            self._client = self._mlflow.MlflowClient(uri)
            # Without a server, files would go into the current directory.
            root = (output_dir / "mlflow_artifacts").as_uri() if uri.startswith(_SQLITE) else None
            experiment_id = self._find_experiment(root)
        with _told_apart():
            found = self._find_run(run, experiment_id, without_users(uri))
            self._run_id = found.info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
            self._tell_parameters(parameters(run.config), found.data.params)
        return int(found.data.tags.get(_LAST_STEP, -1))

    def send(self, lines: Sequence[MetricEntry]) -> None:
        metrics = [metric for line in lines for metric in self._metrics(line)]
        with _told_apart():
            for start in range(0, len(metrics), _MOST_METRICS):
                part = metrics[start : start + _MOST_METRICS]
                is_last = start + _MOST_METRICS >= len(metrics)
                tags = [self._mlflow.entities.RunTag(_LAST_STEP, str(lines[-1].step))] if is_last else []
                self._client.log_batch(self._run_id, metrics=part, tags=tags)

    def finish(self, outcome: Outcome, files: Sequence[Path], results: MetricEntry | None) -> None:
        with _told_apart():
            if results is not None:
                self._client.log_batch(self._run_id, metrics=self._metrics(results))
            for path in files:
                self._client.log_artifact(self._run_id, str(path))
            self._client.set_terminated(self._run_id, _STATUS[outcome])

    def _metrics(self, line: MetricEntry) -> list[Any]:
        milliseconds = round(1000 * line.seconds)
        metric = self._mlflow.entities.Metric
        return [metric(key(name), value, milliseconds, line.step) for name, value in line.metrics.items()]

    def _find_experiment(self, artifact_root: str | None) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            with contextlib.suppress(self._mlflow.exceptions.MlflowException):  # another run may have been faster
                return str(self._client.create_experiment(self._experiment, artifact_location=artifact_root))
            found = self._client.get_experiment_by_name(self._experiment)
        if found is None or found.lifecycle_stage == "deleted":
            raise TemporaryTrackerError(
                f"MLflow: the experiment {self._experiment!r} cannot be made, or was deleted there"
            )
        return str(found.experiment_id)

    def _find_run(self, run: TrackedRun, experiment_id: str, server: str) -> Any:
        record = run.directory.mlflow / "run.json"
        kept = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        if kept.get("server") != server:
            # Kept before the run is made there: if this is killed in between, it is found again.
            kept = {"server": server, "token": secrets.token_hex(16)}
            write_json(record, kept)
        found = self._client.search_runs([experiment_id], filter_string=f"tags.`{_TOKEN}` = '{kept['token']}'")
        tags = {_TOKEN: kept["token"]} | ({"sweep_id": run.group} if run.group else {})
        there = found[0] if found else self._client.create_run(experiment_id, run_name=run.name, tags=tags)
        write_json(record, kept | {"run_id": there.info.run_id})
        return there

    def _tell_parameters(self, values: Mapping[str, Any], known: Mapping[str, str]) -> None:
        """Parameters never change there; what a resumed run has changed becomes a tag."""
        entities = self._mlflow.entities
        texts = {key(name): _text(value) for name, value in values.items()}
        new = [entities.Param(name, text) for name, text in texts.items() if name not in known]
        for start in range(0, len(new), _MOST_PARAMETERS):
            self._client.log_batch(self._run_id, params=new[start : start + _MOST_PARAMETERS])
        for name, text in texts.items():
            if known.get(name, text) != text:
                self._client.set_tag(self._run_id, f"changed.{name}", text)


def key(name: str) -> str:
    """Return a name with the characters that MLflow takes: `precision@5` is `precision_at_5` there."""
    name = name.replace("@", "_at_").replace("%", "_percent").replace("=", "_is_")
    name = posixpath.normpath(re.sub(r"[^\w\-. :/]", "_", name).strip("/"))
    return re.sub(r"^\.+(/|$)", r"_\1", name)[:_LONGEST_KEY]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


@contextlib.contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Hold a local database against other processes: those that make it at the same time destroy it for one another."""
    if not uri.startswith(_SQLITE):
        yield
        return
    path = Path(uri.removeprefix(_SQLITE))
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _told_apart() -> Iterator[None]:
    """Turn whatever the client raises into something that is tried again later."""
    try:
        yield
    except TemporaryTrackerError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…"
        raise TemporaryTrackerError(f"MLflow does not take what is sent: {type(error).__name__}: {reason}") from None
