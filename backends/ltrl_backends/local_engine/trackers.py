"""Where the numbers of a run go beside its `metrics.jsonl`: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ltrl.backend import missing_modules
from ltrl.errors import Code, LtrlError, fail
from ltrl.leaks import cover, leaks
from ltrl.tracking import MLFLOW_STORE, mlflow_client, mlflow_run, write_parameters

if TYPE_CHECKING:
    from ltrl.spec import Mlflow, Wandb
    from ltrl_backends.local_engine.settings import Settings

__all__ = ["Tracker", "trackers"]


class Tracker(Protocol):
    """Takes the numbers of one driver start."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes finite numbers of a step."""
        ...

    def close(self, *, has_failed: bool) -> None:
        """Takes note that the driver ends."""
        ...


def trackers(settings: Settings, run: Path, directory: Path, *, say: Callable[[str], None]) -> Iterator[Tracker]:
    """The trackers that the spec asks for; `run` is the run directory, `directory` that of this start's logs.

    Raises LtrlError when one is not installed or does not take the run.
    """
    if settings.tensorboard:
        yield TensorBoard(directory / "tensorboard")
    if settings.wandb:
        yield WeightsAndBiases(settings, settings.wandb, directory)
    if settings.mlflow:
        yield MLflow(settings, settings.mlflow, run, say=say)


class TensorBoard:
    """Event files."""

    def __init__(self, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, *, has_failed: bool) -> None:  # noqa: ARG002
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases; its id comes from the job (`WANDB_RUN_ID`), which is the same for every attempt."""

    def __init__(self, settings: Settings, wanted: Wandb, directory: Path) -> None:
        if lacking := missing_modules(("wandb",), extra="tracking", of="`logging.wandb`"):
            raise LtrlError(lacking)
        import wandb

        place = directory / "wandb"  # as NeMo-RL does
        place.mkdir()
        mode: Any = "offline" if wanted.mode == "offline" else None  # None: as WANDB_MODE says
        try:
            self._run = wandb.init(
                project=wanted.project,
                entity=wanted.entity,
                name=settings.run_name,
                dir=str(place),
                mode=mode,
                config=settings.model_dump(mode="json"),
            )
        except wandb.Error as error:
            message = f"Weights & Biases does not take the run: {str(error).splitlines()[0]}"
            hint = "pass WANDB_API_KEY on in the cluster's `environment`, or write `logging.wandb.mode: offline`"
            raise fail(Code.TRACKER, cover(message, leaks(message)), hint=hint) from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self, *, has_failed: bool) -> None:
        self._run.finish(exit_code=int(has_failed))


class MLflow:
    """A run of MLflow. A server that fails later ends the tracking and not the training, whose numbers are kept."""

    def __init__(self, settings: Settings, wanted: Mlflow, run: Path, *, say: Callable[[str], None]) -> None:
        self._client = mlflow_client(wanted.tracking_uri or MLFLOW_STORE)
        self._say = say
        self._run = mlflow_run(self._client, run, experiment=wanted.experiment, name=settings.run_name)
        parameters = dict(_flat(settings.model_dump(mode="json")))
        self._attempt("the settings", write_parameters, self._client, self._run, parameters)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._attempt(f"step {step}", lambda: self._client.log_batch(self._run, metrics=metrics))

    def close(self, *, has_failed: bool) -> None:
        status = "FAILED" if has_failed else "FINISHED"
        self._attempt("the end", self._client.set_terminated, self._run, status)

    def _attempt(self, what: str, write: Callable[..., Any], *arguments: Any) -> None:
        from mlflow.exceptions import MlflowException

        try:
            write(*arguments)
        except MlflowException as error:
            message = f"MLflow did not take {what}, metrics.jsonl has it: {str(error).splitlines()[0]}"
            self._say(cover(message, leaks(message)))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
