"""Shell scripts from templates: the only place where text for a shell is put together.

Values reach a template as whole numbers or as `Sh`, text that is already one or more quoted shell words; anything else
is an error of ours. Nothing an author writes can become a command, but for the lines of `setup`, which are commands.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2

from ltrl import profile, sbatch, walltime
from ltrl.backend import create
from ltrl.container import of_stage
from ltrl.errors import Code, fail, raise_if_any
from ltrl.plan import Artifact, Plan
from ltrl.references import Reference, find, split

if TYPE_CHECKING:
    from ltrl.backend import Stage
    from ltrl.spec import ClusterProfile, Container, SlurmRequest

__all__ = ["Sh", "array_script", "job_scripts", "options_of", "references", "render_script", "scripts", "sh", "sh_list"]


class Sh(str):
    """Shell text that is safe where it will stand: quoted words, or code of ours."""

    __slots__ = ()


def sh(value: str | int) -> Sh:
    """One shell word that means exactly the value."""
    text = str(value)
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise fail(Code.INVALID_VALUE, f"`{ascii(text)[1:-1]}` cannot be passed to a command")
    return Sh(shlex.quote(text))


def sh_list(values: Iterable[str | int | Sh]) -> Sh:
    """Shell words separated by blanks; `Sh` values stay as they are."""
    return Sh(" ".join(v if isinstance(v, Sh) else sh(v) for v in values))


def render_script(template: str, **values: Any) -> str:
    """The text of a template of `ltrl_templates`, given by its path there."""
    return _environment().get_template(template).render(values)


def scripts(plan: Plan) -> tuple[Artifact, ...]:
    """The launch scripts of a plan: `local.sh` always, `job.sbatch` and what it starts on a Slurm cluster; those of
    other stages than the training in `stages/NAME/`.

    Raises LtrlError for values of the cluster profile that no script can hold.
    """
    resolved, cluster = plan.resolved, plan.resolved.cluster
    raise_if_any(profile.mistakes(cluster, lambda path: resolved.at(f"cluster.{path}")))
    if (wandb := resolved.spec.logging.wandb) and wandb.mode == "offline":  # NeMo-RL's logger takes no mode
        cluster = cluster.model_copy(update={"environment": {"WANDB_MODE": "offline"} | cluster.environment})
    runtime = create(resolved.engine).runtime
    payload = plan.launch.payload
    found = _scripts(
        cluster,
        plan.launch.job_name,
        plan.launch.command,
        runtime,
        payload=payload,
        steps=resolved.spec.algorithm.steps,
        services=[other.name for other in plan.stages if other.is_service],
    )
    for stage in plan.stages:
        name, shaped = f"{plan.launch.job_name}-{stage.name}", _shaped(cluster, stage)
        own = _scripts(shaped, name, stage.command, stage.runtime, payload=payload, stage=stage)
        found += [Artifact(f"stages/{stage.name}/{a.path}", a.text, a.executable) for a in own]
    return tuple(found)


def job_scripts(cluster: ClusterProfile, stage: Stage, *, name: str, payload: str | None) -> tuple[Artifact, ...]:
    """The launch scripts of a run that is one job without steps: a stage in the run directory itself."""
    shaped = _shaped(cluster, stage)
    return tuple(_scripts(shaped, name, stage.command, stage.runtime, payload=payload, stage=stage, is_below=False))


def _shaped(cluster: ClusterProfile, stage: Stage) -> ClusterProfile:
    """The profile with the machines of one stage; how the nodes of the training must lie means nothing for it."""
    shape: dict[str, Any] = {"nodes": stage.nodes, "gpus_per_node": stage.gpus_per_node, "minutes": stage.minutes}
    if cluster.executor == "slurm":
        request: dict[str, Any] = {"segment": None}
        if stage.memory:
            request |= {"memory": stage.memory, "exclusive": False}
        if stage.cpus_per_node:
            request["cpus_per_node"] = stage.cpus_per_node
        if stage.partition:
            request["partition"] = stage.partition
        shape["slurm"] = (cluster.slurm or _no_request()).model_copy(update=request)
    if cluster.container:
        shape["container"] = of_stage(cluster.container, stage.image)
    return cluster.model_copy(update=shape)


def array_script(script: str, *, name: str, runs: Iterable[tuple[str, str, int, str]], at_once: int | None) -> str:
    """One job for many runs, each given by its directory, id, attempt and mark, that all ask for what a job script of
    theirs asks for.
    """
    listed = list(runs)
    limit = f"%{at_once}" if at_once else ""
    asked = [line for line in options_of(script) if not line.startswith("#SBATCH --job-name=")]
    array = [f"#SBATCH {_option(f'--job-name={name}')}", f"#SBATCH --array=0-{len(listed) - 1}{limit}"]
    return render_script(
        "slurm/array.sbatch",
        header=[Sh(line) for line in (*array, *asked)],
        runs=[sh(directory) for directory, *_ in listed],
        ids=sh_list(run_id for _, run_id, *_ in listed),
        attempts=sh_list(attempt for _, _, attempt, _ in listed),
        marks=sh_list(mark for *_, mark in listed),
    )


def options_of(script: str) -> tuple[str, ...]:
    """The `#SBATCH` lines of a job script."""
    return tuple(line for line in script.splitlines() if line.startswith("#SBATCH "))


def _scripts(
    cluster: ClusterProfile,
    name: str,
    words: Iterable[str],
    runtime: str,
    *,
    payload: str | None,
    stage: Stage | None = None,
    is_below: bool = True,
    steps: int = 0,
    services: Iterable[str] = (),
) -> list[Artifact]:
    """The scripts of one job. That of a stage runs in a directory below the run's, which its container must see,
    unless the run is nothing but that stage.
    """
    is_stage = stage is not None
    is_below = is_below and is_stage
    runs_in = cluster.container.runtime if cluster.container else ""
    services = tuple(services)
    job: dict[str, Any] = {
        "environment": [(Sh(name), _value(value)) for name, value in sorted(cluster.environment.items())],
        "setup": [Sh(line) for line in cluster.setup],
        "imported": [],
        "slurm": cluster.executor == "slurm",
        "is_stage": is_stage,
        "is_service": stage is not None and stage.is_service,
        "services": sh_list(services),
        "has_daemon": runs_in == "docker",
        "remove": Sh({"docker": "docker rm --force", "podman": "podman rm --force --time=0"}.get(runs_in, "")),
    }
    driver: list[str | Sh] = list(words)
    container = cluster.container
    home = Sh('"${LTRL_RUN_DIR%/stages/*}"') if is_below else RUN
    passed = ["LTRL_SERVICES"] if services else []
    on_node = _inside(container, cluster, home, passed) if container else []
    job["preflight"] = sh_list(_preflight(cluster, is_inside=container is None or not on_node))
    command = [*on_node, *driver]
    if payload:
        bundle = "/../../bundle/" if is_below else "/bundle/"
        path = Sh(f'"$LTRL_RUN_DIR"{bundle}{sh(payload)}${{PYTHONPATH:+":$PYTHONPATH"}}')
        job["imported"] = [(Sh("PYTHONPATH"), path)]
        if on_node:  # the variable that counts is the one inside
            command = [*on_node, "bash", "-c", f'export PYTHONPATH={path}; exec "$@"', "bash", *driver]
    found = [Artifact("local.sh", render_script("local/local.sh", **job, command=sh_list(command)), True)]
    if cluster.executor == "slurm":
        job["options"] = [_option(words) for words in _slurm_options(cluster, name, stage=stage)]
        job |= {
            "target": steps,
            "minutes": cluster.minutes,
            "how": cluster.restarts.how if stage is None or stage.is_service else "none",
            "max_attempts": cluster.restarts.max_attempts,
            "max_idle_attempts": cluster.restarts.max_idle_attempts,
            "stop_seconds": walltime.declared(cluster.minutes, cluster.restarts).stop_seconds,
            "timed_out": walltime.TIMED_OUT,
            "out_of_memory": walltime.OUT_OF_MEMORY,
        }
        job["step_options"] = sh_list([*_step_options(cluster), *_pyxis_options(cluster, home)])
        if runtime == "ray":
            numbers = {"gpus_per_node": cluster.gpus_per_node, "num_nodes": cluster.nodes}
            job["preflight"] = sh_list(_preflight(cluster, is_inside=True))
            node = render_script("slurm/ray_node.sh", **job, **numbers, command=sh_list(driver))
            batch = render_script("slurm/ray.sbatch", **job, inside=sh_list(on_node))
            found += [Artifact("job.sbatch", batch, True), Artifact("ray_node.sh", node, True)]
        else:
            found.append(Artifact("job.sbatch", render_script("slurm/process.sbatch", **job), True))
    return found


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(resources.files("ltrl_templates"))),
        undefined=jinja2.StrictUndefined,
        auto_reload=False,
        finalize=_finalize,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="{##",  # `{#` is part of bash's `${#array[@]}`
        comment_end_string="##}",
    )


def _finalize(value: object) -> object:
    if isinstance(value, Sh | jinja2.Undefined) or type(value) is int:
        return value
    raise TypeError(f"a {type(value).__name__} is no shell text: {value!r}")


def _value(text: str) -> Sh:
    """One shell word for an environment value, whose references the job looks up."""
    return Sh("".join(sh(p) if isinstance(p, str) else _looked_up(p) for p in split(text)) or "''")


def _looked_up(reference: Reference) -> str:
    if reference.kind == "file":
        return f'"$(cat -- {sh(reference.name)})"'
    if reference.default is None:
        return f'"${{{reference.name}:?}}"'
    default = re.sub(r'([\\"$`])', r"\\\1", reference.default)
    return f'"${{{reference.name}:-{default}}}"'


def _option(text: str) -> Sh:
    """One option of an `#SBATCH` line: its quotes are not the shell's.

    sbatch 22.05 drops a backslash even inside single quotes, and takes an unquoted `#` for a comment.
    """
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]+", text):
        return Sh(text)
    escaped = re.sub(r'(["\\])', r"\\\1", text)
    return Sh(f'"{escaped}"')


def _slurm_options(cluster: ClusterProfile, job_name: str, *, stage: Stage | None) -> list[str]:
    request = cluster.slurm or _no_request()
    options = [
        f"--job-name={job_name}",
        f"--nodes={cluster.nodes}",
        "--ntasks-per-node=1",
        f"--time={cluster.minutes}",
        "--open-mode=append",
        "--no-requeue" if cluster.restarts.how == "none" and stage is None else "--requeue",
    ]
    if stage is None:
        options.append(walltime.declared(cluster.minutes, cluster.restarts).option)
    elif stage.is_service:
        options.append(walltime.SERVICE_OPTION)
    for name in ("partition", "account", "qos", "constraint", "reservation"):
        if value := getattr(request, name):
            options.append(f"--{name}={value}")
    if request.gres and cluster.gpus_per_node:
        options.append(f"--gres={request.gres}:{cluster.gpus_per_node}")
    if request.exclusive:
        options.append("--exclusive")
    if request.memory or request.exclusive:
        options.append(f"--mem={request.memory or 0}")
    for option, value in (
        ("cpus-per-task", request.cpus_per_node),
        ("segment", request.segment),
        ("switches", request.switches),
    ):
        if value:
            options.append(f"--{option}={value}")
    return [*options, *(str(sbatch.option(line)) for line in request.extra)]


def _no_request() -> SlurmRequest:
    from ltrl.spec import SlurmRequest

    return SlurmRequest()


def _preflight(cluster: ClusterProfile, *, is_inside: bool) -> Iterable[str]:
    """Options of `ltrl.preflight`; inside the container a mount is at its target, outside at its source."""
    wanted, container = cluster.preflight, cluster.container
    yield f"--nodes={cluster.nodes}"
    yield f"--gpus={cluster.gpus_per_node}"
    yield f"--max-gpu-memory-used-mb={wanted.max_gpu_memory_used_mb}"
    yield f"--min-free-disk-gb={wanted.min_free_disk_gb:g}"
    yield f"--max-clock-skew-seconds={wanted.max_clock_skew_seconds:g}"
    if wanted.driver:
        yield f"--driver={wanted.driver}"
    if wanted.require_nvidia_smi:
        yield "--require-nvidia-smi"
    if wanted.network_interface:
        yield f"--network-interface={wanted.network_interface}"
    for mount in _mounts(container, cluster) if container else ():
        yield f"--mount={mount.split(':')[1 if is_inside else 0]}"


RUN, PROJECT, CONTAINER_ID = '"$LTRL_RUN_DIR"', '"$LTRL_PROJECT_DIR"', '"$attempt/container_id"'


def _step_options(cluster: ClusterProfile) -> list[str]:
    """What the site wants of every srun; a step does not inherit `--cpus-per-task` since Slurm 22.05."""
    request = cluster.slurm or _no_request()
    cpus = [f"--cpus-per-task={request.cpus_per_node}"] if request.cpus_per_node else []
    return [*cpus, *(word for line in request.step_options for word in shlex.split(line))]


def _pyxis_options(cluster: ClusterProfile, home: str) -> list[str | Sh]:
    """Options of srun that start a step in the image; none without pyxis."""
    container = cluster.container
    if container is None or container.runtime != "pyxis":
        return []
    mounts = "".join(f",{m}" for m in _mounts(container, cluster))
    return [
        f"--container-image={container.image}",
        Sh(f"--container-mounts={home}:{home},{PROJECT}:{PROJECT}{sh(mounts) if mounts else ''}"),
        Sh(f"--container-workdir={RUN}"),
        "--no-container-mount-home",
    ]


def _inside(container: Container, cluster: ClusterProfile, home: str, passed: list[str]) -> list[str | Sh]:
    """The words before a command that run it in the image, where it sees `home` and, beside what every job has, the
    variables `passed`; none for pyxis, which is srun's.
    """
    match container.runtime:
        case "pyxis":
            return []
        case "apptainer":
            binds = [Sh(f"--bind={path}:{path}") for path in (home, PROJECT)]
            gpus = ["--nv"] if cluster.gpus_per_node else []
            return ["apptainer", "exec", *gpus, *binds, *(f"--bind={m}" for m in _mounts(container, cluster)),
                    Sh(f"--pwd={RUN}"), container.image]  # fmt: skip
        case "docker" | "podman" as runtime:
            names = ["LTRL_RUN_DIR", "LTRL_RUN_ID", "LTRL_ATTEMPT", "LTRL_PROJECT_DIR", "WANDB_RUN_ID", "WANDB_RESUME"]
            names += [*passed, *sorted(cluster.environment)]
            # files are to be the user's own: root is that already in podman, which then refuses `keep-id`
            rootless = Sh('"--userns=$(if (( EUID )); then printf keep-id; else printf host; fi)"')
            user = rootless if runtime == "podman" else Sh('--user="$(id -u):$(id -g)"')
            gpus = ["--gpus=all"] if runtime == "docker" else ["--device=nvidia.com/gpu=all"]
            return [runtime, "run", "--rm", "--init", Sh(f"--cidfile={CONTAINER_ID}"),
                    "--network=host", "--ipc=host", user,
                    *(gpus if cluster.gpus_per_node else []), *(f"--env={name}" for name in names),
                    *(Sh(f"--volume={path}:{path}") for path in (home, PROJECT)),
                    *(f"--volume={m}" for m in _mounts(container, cluster)),
                    Sh(f"--workdir={RUN}"), container.image]  # fmt: skip


def _mounts(container: Container, cluster: ClusterProfile) -> list[str]:
    """Every mount beside the run directory and the project; a target that the profile mounts itself goes first."""
    targets = {mount.split(":")[1] for mount in container.mounts}
    shared = [path for path in cluster.shared_paths if path not in targets]
    return [*container.mounts, *(f"{path}:{path}" for path in shared)]


def references(values: Iterable[str]) -> tuple[str, ...]:
    """Names of the submitter's variables that environment values need."""
    needed = (r.name for value in values for r in find(value) if r.kind == "env" and r.default is None)
    return tuple(sorted(set(needed)))
