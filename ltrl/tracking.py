"""MLflow's run of a run: one for all its attempts, as `wandb_run_id` is for Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltrl.backend import missing_modules
from ltrl.errors import Code, LtrlError, fail
from ltrl.leaks import cover, leaks

__all__ = ["MLFLOW_STORE", "mlflow_client", "mlflow_run", "write_parameters"]

MLFLOW_STORE = "sqlite:///logs/mlflow.db"
"""Where metrics go without a server: a file in the run directory, the current one of every driver."""
_KEPT = "mlflow_run_id"


def mlflow_client(uri: str) -> Any:
    """A client of the tracking server or store; `MLFLOW_TRACKING_URI` of the environment goes before the spec's.

    Raises LtrlError when MLflow is not installed or the address is none.
    """
    if lacking := missing_modules(("mlflow",), extra="tracking", of="`logging.mlflow`"):
        raise LtrlError(lacking)
    from mlflow import MlflowClient

    uri = os.environ.get("MLFLOW_TRACKING_URI") or uri
    try:
        return MlflowClient(tracking_uri=uri)
    except Exception as error:  # each kind of store has its own
        raise _unreachable(uri, error) from error


def mlflow_run(client: Any, directory: Path, *, experiment: str, name: str) -> str:
    """The id of the MLflow run that all attempts in a run directory report to.

    The first attempt makes it and keeps the id in `mlflow_run_id`. A run that was deleted there, or that belongs to
    another server, is made anew. Raises LtrlError when the server does not answer or refuses.
    """
    from mlflow.exceptions import MlflowException

    kept = directory / _KEPT
    try:
        known = kept.read_text("utf-8").strip() if kept.exists() else ""
        if known and _is_there(client, known):
            client.update_run(known, status="RUNNING")
            return known
        tags = {"ltrl.run": os.environ.get("LTRL_RUN_ID") or directory.name}
        run: str = client.create_run(_experiment(client, experiment, directory), run_name=name, tags=tags).info.run_id
    except MlflowException as error:
        raise _unreachable(client.tracking_uri, error) from error
    partial = kept.with_suffix(".new")
    partial.write_text(f"{run}\n", "utf-8")
    partial.replace(kept)
    return run


def write_parameters(client: Any, run: str, parameters: Mapping[str, Any]) -> None:
    """Writes those that the run does not have yet: MLflow refuses a second value, and every attempt brings them all."""
    from mlflow.entities import Param

    known = client.get_run(run).data.params
    new = [Param(name, str(value)) for name, value in parameters.items() if name not in known]
    client.log_batch(run, params=new)


def _is_there(client: Any, run: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def _experiment(client: Any, name: str, directory: Path) -> str:
    """The id of the experiment, made if it is missing; files of runs without a server stay in the run directory."""
    from mlflow.exceptions import MlflowException

    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    is_server = client.tracking_uri.startswith("http")
    place = None if is_server else (directory / "logs" / "mlflow").resolve().as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=place))
    except MlflowException as error:
        if error.error_code == "RESOURCE_ALREADY_EXISTS" and (found := client.get_experiment_by_name(name)):
            return str(found.experiment_id)  # another run was faster
        raise


def _unreachable(uri: str, error: Exception) -> LtrlError:
    said = (str(error) or type(error).__name__).splitlines()[0]
    message = f"MLflow at `{uri}` does not take the run: {said}"
    hint = "see `logging.mlflow`, and MLFLOW_TRACKING_URI and MLFLOW_TRACKING_TOKEN in the cluster's `environment`"
    return fail(Code.TRACKER, cover(message, leaks(message)), hint=hint)
