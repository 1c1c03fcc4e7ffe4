"""What an author writes: the models behind `kind: experiment` and `kind: cluster`.

Every field says what it means in the string below it; that text is the JSON schema, the reference page and `--help`.
Defaults are the method's neutral values: a spec states what makes its experiment. A validator here only rejects.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from ltrl.backend import DataChoice, EngineChoice, Later, Model, Note, Relaunch, RewardChoice
from ltrl.references import Late, Shell

__all__ = [
    "TOKENS",
    "Algorithm",
    "Checkpoint",
    "ClusterProfile",
    "Experiment",
    "Logging",
    "Optimizer",
    "Parallelism",
    "Preflight",
    "Restarts",
    "Rollout",
    "Sweep",
]


def _tokens(value: Any) -> Any:
    """`128k` is 131072: k counts 1024 tokens, m 1024 k."""
    if isinstance(value, str):
        digits, unit = value[:-1], value[-1:].lower()
        if digits.isdecimal() and unit in ("k", "m"):
            return int(digits) * (1024 if unit == "k" else 1024 * 1024)
    return value


def _auto(value: Any) -> Any:
    return None if value == "auto" else value


TOKENS = BeforeValidator(
    _tokens, json_schema_input_type=int | Annotated[str, StringConstraints(pattern="^[0-9]+[kKmM]$")]
)
"""Marks a field that counts tokens."""

Tokens = Annotated[int, TOKENS, Field(ge=1)]
"""A number of tokens; `128k` means 131072."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
"""Lower-case letters, digits, `.`, `_` and `-`; at most 63 characters: it names directories and jobs."""

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class Context(Model):
    """How long a prompt and a response may be, in tokens."""

    prompt: Tokens
    """Longest prompt; longer samples are left out of the training data and counted."""
    response: Tokens
    """Longest response; one that reaches it is cut and counts as truncated."""
    total: Tokens | None = None
    """Longest prompt and response together; by default the sum of the two."""


class Policy(Model):
    """Which model is trained, and how long its texts are."""

    base: str
    """Hugging Face id, directory with a `config.json`, or a model that the engine makes itself."""
    revision: str | None = None
    """Commit or tag of the model's repository; by default its newest."""
    context: Context
    """Lengths in tokens."""
    chat_format: str = "auto"
    """How reasoning and answer are told apart in a response: `qwen3`, `deepseek-r1`, `plain` or a plugin's; `auto` asks
    the model card."""
    overrides: dict[str, Any] = {}
    """Keys of the model's `config.json` to replace, `rope_scaling` for example; training and rollouts both see them."""


class Data(Model):
    """Where training and validation samples come from."""

    train: DataChoice
    """Training samples."""
    validation: Annotated[dict[Name, DataChoice], Relaunch] = {}
    """Validation sets by name; each is measured on its own."""
    shuffle: bool = True
    """Draw prompts in a seeded random order instead of the data's own."""


class Clip(Model):
    """Bounds of the policy ratio in the surrogate loss."""

    low: NonNegative = 0.2
    """The ratio is clipped below 1 - low."""
    high: NonNegative = 0.28
    """The ratio is clipped above 1 + high; larger than `low` is DAPO's clip-higher."""
    dual: Annotated[float, Field(gt=1)] | None = None
    """Bound of the loss for negative advantages (dual clip); none by default."""


class KL(Model):
    """Penalty that keeps the policy near the start model."""

    coefficient: NonNegative = 0.0
    """Weight of the penalty; 0 loads no reference model."""
    estimator: Literal["k1", "k2", "k3"] = "k3"
    """Which estimator of the divergence (Schulman 2020)."""
    in_reward: bool = False
    """Subtract the penalty from the reward instead of adding it to the loss."""


class ImportanceCorrection(Model):
    """Correction for the gap between the probabilities of the rollout engine and of the trainer."""

    kind: Literal["none", "full", "tis", "icepop", "seq-mask-tis"] = "none"
    """`full`: the plain ratio; `tis`: the ratio clamped to [low, high]; `icepop`: tokens outside [low, high] get weight
    0; `seq-mask-tis`: whole sequences whose mean ratio lies outside do."""
    low: Positive | None = None
    """Lower bound of the ratio."""
    high: Positive | None = None
    """Upper bound of the ratio."""


class Advantage(Model):
    """How rewards of a group become advantages."""

    divide_by_std: bool = True
    """Divide by the group's standard deviation (unbiased, plus 1e-6); false is Dr. GRPO."""
    leave_one_out: bool = False
    """Compare a response with the mean of the others instead of the mean of all."""
    clip_low: float | None = None
    """Clamp advantages from below."""
    clip_high: float | None = None
    """Clamp advantages from above."""


class DynamicSampling(Model):
    """Replace prompts whose responses all got the same reward (DAPO)."""

    max_batches: Count = 10
    """Stop with an error when so many batches of prompts did not fill a step."""
    batch_multiplier: Annotated[float, Field(ge=1)] = 1.0
    """How many times the needed prompts are drawn in the first place."""


class AsyncTraining(Model):
    """Train while responses are still being generated; needs rollouts on nodes of their own."""

    max_age_steps: Count = 1
    """Oldest policy, in steps, whose responses are still trained on."""
    in_flight_updates: bool = False
    """Give running generations the new weights instead of waiting for them."""


class Algorithm(Model):
    """Group relative policy optimisation and its variants."""

    name: Literal["grpo"] = "grpo"
    """The algorithm."""
    steps: Count
    """Training steps; one step is one batch of rollouts."""
    prompts_per_step: Count = 16
    """Prompts in a step."""
    group_size: Annotated[int, Field(ge=2)] = 8
    """Responses to each prompt; they are compared with each other."""
    batch_size: Count | None = None
    """Responses in one optimizer update; by default all of a step, so that one step is one update."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Seed of everything random."""
    clip: Clip = Clip()
    """Clipping of the policy ratio."""
    objective: Literal["clip", "cispo", "reinforce"] = "clip"
    """`clip`: PPO's surrogate; `cispo`: clipped importance weights; `reinforce`: no ratio."""
    ratio: Literal["token", "sequence"] = "token"
    """Level of the importance ratio; `sequence` is GSPO."""
    on_policy: bool = False
    """Take the ratio as exactly 1, which saves the pass for old log-probabilities; needs one update per step."""
    loss_aggregation: Literal["token", "sequence"] = "token"
    """Mean over all response tokens of the batch, or mean of each sequence's mean."""
    kl: KL = KL()
    """Penalty for leaving the start model."""
    importance_correction: ImportanceCorrection = ImportanceCorrection()
    """Correction for rollouts that were sampled with other numerics than the trainer's."""
    advantage: Advantage = Advantage()
    """From rewards to advantages."""
    truncated: Literal["train", "mask"] = "train"
    """Whether responses cut at the limit (their reward is 0) take part in the loss."""
    dynamic_sampling: DynamicSampling | None = None
    """Replace prompts without signal; off by default."""
    asynchronous: AsyncTraining | None = None
    """Overlap generation and training; off by default."""


class Optimizer(Model):
    """Adam and its schedule."""

    name: Literal["adam"] = "adam"
    """The optimizer."""
    lr: Positive
    """Peak learning rate."""
    weight_decay: NonNegative = 0.1
    """Decoupled weight decay."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    """Decay of the first and second moment."""
    eps: Positive = 1e-8
    """Added to the denominator."""
    max_grad_norm: Positive = 1.0
    """Gradients are scaled down to this norm."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Course of the learning rate after the warm-up."""
    warmup_steps: Whole = 0
    """Steps of linear warm-up from 0."""
    min_lr: NonNegative | None = None
    """Where a decaying schedule ends; by default 0 for a decaying one."""


class RolloutParallelism(Model):
    """GPUs of one rollout engine."""

    tensor: Count = 1
    """Tensor parallel size."""
    pipeline: Count = 1
    """Pipeline parallel size."""
    expert: Count = 1
    """Expert parallel size."""


class Rollout(Model):
    """How responses are sampled."""

    temperature: Positive = 1.0
    """Sampling temperature."""
    top_p: Share = 1.0
    """Nucleus sampling; below 1 the trainer must filter its log-probabilities too, which costs memory."""
    top_k: Count | None = None
    """Sample from so many tokens only; costs memory like `top_p`."""
    stop_token_ids: tuple[Whole, ...] | None = None
    """Tokens that end a response; by default those of the model card."""
    parallelism: RolloutParallelism = RolloutParallelism()
    """GPUs of one engine; engines fill the remaining GPUs."""
    gpu_memory: Annotated[Share, Relaunch] = 0.7
    """Share of a GPU's memory that a rollout engine may take."""
    async_engine: Annotated[bool, Relaunch] = False
    """Score responses as they finish instead of when all have."""
    nodes: Annotated[Count | None, Relaunch] = None
    """Nodes that only generate; by default training and generation take turns on the same GPUs."""


class Parallelism(Model):
    """How the trained model is spread over GPUs; data parallelism takes what remains."""

    tensor: Annotated[Count, Relaunch] = 1
    """Tensor parallel size (tp)."""
    pipeline: Annotated[Count, Relaunch] = 1
    """Pipeline parallel size (pp)."""
    context: Annotated[Count, Relaunch] = 1
    """Context parallel size (cp): the tokens of one sequence are split over so many GPUs."""
    expert: Annotated[Count, Relaunch] = 1
    """Expert parallel size (ep)."""
    expert_tensor: Annotated[Count, Relaunch] = 1
    """Tensor parallel size inside an expert (etp)."""


class Validation(Model):
    """When the validation sets are measured."""

    every_steps: Annotated[Whole, Relaunch] = 20
    """Measure after every so many steps; 0 never."""
    at_start: Annotated[bool, Relaunch] = True
    """Measure the start model first."""
    at_end: Annotated[bool, Relaunch] = True
    """Measure after the last step."""
    samples_per_prompt: Annotated[Count, Relaunch] = 1
    """Responses to each validation prompt; the figure is their mean."""


class Checkpoint(Model):
    """When the training state is saved and what is kept."""

    every_steps: Annotated[Count, Relaunch] = 20
    """Save after every so many steps, and after the last."""
    keep: Annotated[Count | None, Relaunch] = None
    """How many to keep; by default all, unless `keep_last` or `keep_every` is given."""
    metric: Annotated[str | None, Relaunch] = None
    """Which are kept: the best by this metric (`val:accuracy`), by default the newest; the newest is always kept. The
    highest is the best, but of losses, errors, divergences, gradient norms and truncation rates the lowest."""
    keep_last: Annotated[Count | None, Relaunch] = None
    """How many of the newest to keep besides."""
    keep_every: Annotated[Count | None, Relaunch] = None
    """Keep those of every so many steps besides; a multiple of `every_steps`."""
    save_optimizer: Annotated[bool, Relaunch] = True
    """Save the optimizer's state too; without it a resumed run starts Adam anew."""

    def most_kept(self, steps: Collection[int]) -> int:
        """How many of the checkpoints of these steps may stay at the same time, whatever was measured."""
        forever = sum(step % self.keep_every == 0 for step in steps) if self.keep_every else 0
        return self._most_kept(len(steps), forever)

    def most_kept_until(self, last: int) -> int:
        """The same for a whole run of so many steps."""
        forever = 0
        if self.keep_every:
            both = math.lcm(self.every_steps, self.keep_every)
            forever = (last - 1) // both + (last % self.keep_every == 0)
        return self._most_kept(-(-last // self.every_steps), forever)

    def _most_kept(self, saved: int, forever: int) -> int:
        if self.keep is None and self.keep_last is None and self.keep_every is None:
            return saved
        best, newest = (self.keep or 0, 1) if self.metric else (0, self.keep or 1)
        return min(saved, best + max(newest, self.keep_last or 0) + forever)


class Wandb(Model):
    """Weights & Biases; the key comes from the environment (`WANDB_API_KEY`), never from a spec."""

    project: Annotated[str, Relaunch]
    """Project name."""
    entity: Annotated[str | None, Relaunch] = None
    """Team or user."""
    mode: Annotated[Literal["online", "offline"], Relaunch] = "online"
    """`offline` writes files into the run directory, which `wandb sync` sends later."""


class Mlflow(Model):
    """MLflow; a token comes from the environment (`MLFLOW_TRACKING_TOKEN`), never from a spec."""

    experiment: Annotated[str, Relaunch]
    """Experiment name; made if it is missing."""
    tracking_uri: Annotated[str | None, Relaunch] = None
    """Address of the tracking server; by default a file in the run directory. `MLFLOW_TRACKING_URI` goes before it."""


class Logging(Model):
    """Where metrics go, beside the run directory."""

    tensorboard: Annotated[bool, Relaunch] = True
    """Write TensorBoard event files."""
    wandb: Annotated[Wandb | None, Relaunch] = None
    """Also report to Weights & Biases."""
    mlflow: Annotated[Mlflow | None, Relaunch] = None
    """Also report to MLflow."""
    rollouts: Annotated[bool, Relaunch] = False
    """Write every training response to `train_data_step{N}.jsonl`; gigabytes a step at 160K tokens."""
    samples_to_print: Annotated[Whole, Relaunch] = 0
    """Validation samples printed to the driver's log each time."""


class Sweep(Model):
    """Runs that differ in a few fields, given by their dotted paths; every combination is a run of its own."""

    grid: Annotated[dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]], Note] = {}
    """Every value of each field with every value of the others."""
    zip: Annotated[dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]], Note] = {}
    """The first values of all these fields together, then the second, and so on; as many for each."""
    cases: Annotated[tuple[dict[str, Any], ...], Note] = ()
    """Sets of fields written out, each with a `name` if its values do not make a good one."""
    exclude: Annotated[tuple[dict[str, Any], ...], Note] = ()
    """Combinations that are left out: those that have all the values of one of these."""
    at_once: Annotated[Count | None, Note] = None
    """Most of them that run at the same time; by default as many as Slurm lets, and one on this machine."""


class Experiment(Model):
    """One training run: what is learned, from what, and how."""

    kind: Literal["experiment"]
    """What this file is."""
    name: Annotated[Name, Note]
    """Names the bundle, the run and the job."""
    description: Annotated[str, Note] = ""
    """For the people who read this."""
    model: Policy
    """The model and its lengths."""
    data: Data
    """Samples."""
    reward: RewardChoice
    """Reward of a response."""
    algorithm: Algorithm
    """The training algorithm."""
    optimizer: Optimizer
    """The optimizer."""
    rollout: Rollout = Rollout()
    """Sampling of responses."""
    parallelism: Annotated[Parallelism | None, BeforeValidator(_auto), Relaunch] = None
    """Layout of the trained model; by default (`auto`) the first layout that fits."""
    validation: Validation = Validation()
    """Measuring on the way."""
    checkpoint: Checkpoint = Checkpoint()
    """Saving on the way."""
    logging: Logging = Logging()
    """Reporting on the way."""
    engine: EngineChoice
    """The training system."""
    sweep: Annotated[Sweep | None, Note] = None
    """Makes this the description of many runs."""
    eval: Annotated[Annotated[Model | None, Later("ltrl.evaluation.spec:EvalSection")], Relaunch] = None
    """Measures the trained model: with the stage `eval`, or with `ltrl eval` of this file."""
    stages: Annotated[Annotated[tuple[Name, ...], Field(min_length=1)], Relaunch] = ("train",)
    """Parts of the run, in order; each is a job that starts when the one before has succeeded. The engine says which
    there are."""


class Container(Model):
    """The image that a job runs in."""

    runtime: Annotated[Literal["pyxis", "apptainer", "docker", "podman"], Relaunch]
    """What starts it."""
    image: Annotated[str, Relaunch]
    """A registry reference or the path of an image file."""
    mounts: Annotated[tuple[str, ...], Relaunch] = ()
    """`source:target[:options]` each; the run directory is always mounted at its own path."""


class SlurmRequest(Model):
    """What is asked of Slurm; see `man sbatch`."""

    partition: Annotated[str | None, Relaunch] = None
    """Partition, or several separated by commas."""
    account: Annotated[str | None, Relaunch] = None
    """Account to charge."""
    qos: Annotated[str | None, Relaunch] = None
    """Quality of service."""
    constraint: Annotated[str | None, Relaunch] = None
    """Node features."""
    reservation: Annotated[str | None, Relaunch] = None
    """Reservation."""
    gres: Annotated[str | None, Relaunch] = "gpu"
    """GRES name of a GPU, with its type if the site needs one (`gpu:h100`); null asks for whole nodes only."""
    exclusive: Annotated[bool, Relaunch] = True
    """Share nodes with no other job."""
    cpus_per_node: Annotated[Count | None, Relaunch] = None
    """CPUs of each node; by default all of them when exclusive, else what the site gives to one task."""
    memory: Annotated[Annotated[str, StringConstraints(pattern="^[0-9]+[KMGT]?$")] | None, Relaunch] = None
    """Memory of each node, `500G` for example; by default all of it when exclusive, else what the site gives."""
    segment: Annotated[Count | None, Relaunch] = None
    """Nodes that must lie in one block of the network (`--segment`, Slurm 23.11 and newer); `nodes` is a multiple."""
    switches: Annotated[Annotated[str, StringConstraints(pattern="^[0-9]+(@[0-9:-]+)?$")] | None, Relaunch] = None
    """Most leaf switches that the nodes may hang on, and how long to wait for that: `1@12:00:00`."""
    clients: Annotated[str | None, Relaunch] = None
    """Directory of Slurm's commands, where they are not on the PATH; `mock` is a Slurm that this machine plays."""
    extra: Annotated[tuple[str, ...], Relaunch] = ()
    """Further `#SBATCH` options as written on the command line: `--exclude=node[7-9]`, `-x node7`. The sbatch of the
    submitting machine is asked whether it knows them."""
    step_options: Annotated[tuple[str, ...], Relaunch] = ()
    """Further options of every `srun` that starts a part of the job: `--mpi=none`."""


class StageRequest(Model):
    """What one stage gets; what is left out is the engine's choice."""

    nodes: Annotated[Count | None, Relaunch] = None
    """Machines."""
    gpus_per_node: Annotated[Whole | None, Relaunch] = None
    """GPUs in each machine."""
    minutes: Annotated[Count | None, Relaunch] = None
    """Wall time."""
    cpus_per_node: Annotated[Count | None, Relaunch] = None
    """CPUs of each machine."""
    memory: Annotated[Annotated[str, StringConstraints(pattern="^[0-9]+[KMGT]?$")] | None, Relaunch] = None
    """Memory of each machine, `16G` for example; the stage then shares its node with other jobs."""
    partition: Annotated[str | None, Relaunch] = None
    """Partition of the cluster, one without GPUs for example; by default that of the training."""


class Restarts(Model):
    """Going on until the step target is reached; only with `executor: slurm`."""

    how: Annotated[Literal["requeue", "chain", "none"], Relaunch] = "requeue"
    """`requeue`: the job asks Slurm to start it again; `chain`: it submits a successor that waits for its end, where
    requeueing is forbidden; `none`: a person submits again."""
    max_attempts: Annotated[Count, Relaunch] = 50
    """Attempts that one submission may make."""
    max_idle_attempts: Annotated[Count, Relaunch] = 2
    """Attempts in a row without a new checkpoint after which none is started any more."""
    step_minutes: Annotated[Positive, Relaunch] = 20.0
    """How long a training step takes, as long as no attempt of the run has measured it."""
    save_minutes: Annotated[Positive, Relaunch] = 10.0
    """How long writing a checkpoint takes, as long as no attempt of the run has measured it."""


class Preflight(Model):
    """What every node must pass before Ray or the driver starts; the number of GPUs is that of the profile."""

    max_gpu_memory_used_mb: Annotated[Whole, Relaunch] = 2048
    """Memory that others may hold on a GPU, in MiB; more means that something was left behind there."""
    driver: Annotated[str | None, Relaunch] = None
    """Oldest NVIDIA driver that will do, `550.54` for example."""
    require_nvidia_smi: Annotated[bool, Relaunch] = False
    """Fail where `nvidia-smi` is missing; otherwise the GPUs that Slurm gave are counted."""
    network_interface: Annotated[str | None, Relaunch] = None
    """Interface that must be up; by default what `NCCL_SOCKET_IFNAME` of `environment` names."""
    min_free_disk_gb: Annotated[NonNegative, Relaunch] = 10.0
    """Free space, in GiB, of the run directory's disk and of the node's own temporary directory."""
    max_clock_skew_seconds: Annotated[Positive, Relaunch] = 60.0
    """How far a node's clock may be from that of the run directory's disk."""


class ClusterProfile(Model):
    """Where jobs run: one file per cluster, chosen with `--cluster NAME`."""

    kind: Literal["cluster"]
    """What this file is."""
    executor: Annotated[Literal["local", "slurm"], Relaunch]
    """What launches the job."""
    nodes: Annotated[Count, Relaunch] = 1
    """Machines of one job."""
    gpus_per_node: Annotated[Whole, Relaunch] = 0
    """GPUs in each machine; 0 for a CPU-only one."""
    gpu_memory_gb: Annotated[Positive, Relaunch] = 80.0
    """Memory of one GPU, in GiB."""
    minutes: Annotated[Count, Relaunch] = 1440
    """Wall time of one job."""
    stages: Annotated[dict[Name, StageRequest], Relaunch] = {}
    """Machines and time of stages other than `train`, by their names."""
    slurm: Annotated[SlurmRequest | None, Relaunch] = None
    """Options of the Slurm request; only with `executor: slurm`."""
    container: Annotated[Container | None, Relaunch] = None
    """Image to run in; none runs in the environment that `setup` prepares."""
    setup: Annotated[tuple[str, ...], Relaunch, Shell] = ()
    """Shell lines run on every node before anything else, `module load cuda` for example."""
    shared_paths: Annotated[tuple[str, ...], Relaunch] = ()
    """Directories that every node sees: models, data sets, caches. A container gets each of them at its own path."""
    environment: Annotated[
        dict[Annotated[str, StringConstraints(pattern="^[A-Za-z_][A-Za-z0-9_]*$")], str], Relaunch, Late
    ] = {}
    """Environment variables of the job. References are looked up in the job: `${env:NAME}` is passed on at submission,
    `${file:PATH}` is read on the node. A variable whose name ends in TOKEN, SECRET, PASSWORD, _KEY or the like takes
    a reference only."""
    restarts: Restarts = Restarts()
    """What follows a job that ended before the step target."""
    preflight: Preflight = Preflight()
    """What every node must pass first."""
    runs_dir: Annotated[str | None, Relaunch] = None
    """Directory of run directories, on storage that every node sees; by default `runs` in the project."""
