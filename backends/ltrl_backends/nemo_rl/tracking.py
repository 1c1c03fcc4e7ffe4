"""One MLflow run for all attempts, which NeMo-RL's logger would not keep to. Imported in the job only.

NeMo-RL starts a new run with every driver unless it is told an id, and a run that it is told must exist. It then writes
the whole configuration again, whose log directory differs: MLflow refuses a second value of a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltrl.tracking import MLFLOW_STORE, mlflow_client, mlflow_run, write_parameters

__all__ = ["keep_run"]


def keep_run(logger: dict[str, Any], directory: Path) -> None:
    """Makes the section `logger` name the MLflow run of this run directory, if it uses MLflow and names none.

    Raises LtrlError when the server does not take the run.
    """
    section = logger.get("mlflow") or {}
    if not logger.get("mlflow_enabled") or section.get("run_id"):
        return
    client = mlflow_client(section.get("tracking_uri") or MLFLOW_STORE)
    name = section.get("run_name") or directory.name
    section["run_id"] = mlflow_run(client, directory, experiment=section["experiment_name"], name=name)
    logger["mlflow"] = section

    from nemo_rl.utils import logger as nemo_logger

    def log_hyperparams(self: Any, params: Mapping[str, Any]) -> None:
        write_parameters(client, self.run_id, nemo_logger.flatten_dict(params))

    nemo_logger.MLflowLogger.log_hyperparams = log_hyperparams
