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

from ltrl.backend import create
from ltrl.errors import Code, Diagnostic, fail, raise_if_any
from ltrl.plan import Artifact, Plan

if TYPE_CHECKING:
    from ltrl.spec import ClusterProfile, Container, SlurmRequest

__all__ = ["Sh", "references", "render_script", "scripts", "sh", "sh_list"]

CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
"""What would end a line of a script, or hide in one."""

REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
"""A value that is taken from the submitter's environment: `${env:HF_TOKEN}`."""


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
    """The launch scripts of a plan: `local.sh` always, `job.sbatch` and what it starts on a Slurm cluster.

    Raises LtrlError for values of the cluster profile that no script can hold.
    """
    resolved, cluster = plan.resolved, plan.resolved.cluster
    raise_if_any(_mistakes(plan))
    job: dict[str, Any] = {
        "environment": [(Sh(name), _value(value)) for name, value in sorted(cluster.environment.items())],
        "setup": [Sh(line) for line in cluster.setup],
        "imported": [],
    }
    driver: list[str | Sh] = list(plan.launch.command)
    container = cluster.container
    on_node = _inside(container, cluster) if container else []
    command = [*on_node, *driver]
    if plan.launch.payload:
        path = Sh(f'"$LTRL_RUN_DIR"/bundle/{sh(plan.launch.payload)}${{PYTHONPATH:+":$PYTHONPATH"}}')
        job["imported"] = [(Sh("PYTHONPATH"), path)]
        if on_node:  # the variable that counts is the one inside
            command = [*on_node, "bash", "-c", f'export PYTHONPATH={path}; exec "$@"', "bash", *driver]
    found = [Artifact("local.sh", render_script("local/local.sh", **job, command=sh_list(command)), True)]
    if cluster.executor == "slurm":
        job["options"] = [_option(words) for words in _slurm_options(plan)]
        job["step_options"] = sh_list(_pyxis(container) if container and container.runtime == "pyxis" else [])
        if create(resolved.engine).runtime == "ray":
            numbers = {"gpus_per_node": cluster.gpus_per_node, "num_nodes": cluster.nodes}
            node = render_script("slurm/ray_node.sh", **job, **numbers, command=sh_list(driver))
            batch = render_script("slurm/ray.sbatch", **job, inside=sh_list(on_node))
            found += [Artifact("job.sbatch", batch, True), Artifact("ray_node.sh", node, True)]
        else:
            found.append(Artifact("job.sbatch", render_script("slurm/process.sbatch", **job), True))
    return tuple(found)


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(resources.files("ltrl_templates"))),
        undefined=jinja2.StrictUndefined,
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
    """One shell word for an environment value, in which `${env:NAME}` is the submitter's variable."""
    literal = REFERENCE.split(text)  # text, name, text, name, … text
    parts = [f'"${{{part}:?}}"' if i % 2 else sh(part) for i, part in enumerate(literal) if i % 2 or part]
    return Sh("".join(parts) or "''")


def _option(text: str) -> Sh:
    """One option of an `#SBATCH` line: its quotes are not the shell's.

    sbatch 22.05 drops a backslash even inside single quotes, and takes an unquoted `#` for a comment.
    """
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]+", text):
        return Sh(text)
    escaped = re.sub(r'(["\\])', r"\\\1", text)
    return Sh(f'"{escaped}"')


def _slurm_options(plan: Plan) -> list[str]:
    cluster = plan.resolved.cluster
    request = cluster.slurm or _no_request()
    options = [
        f"--job-name={plan.launch.job_name}",
        f"--nodes={plan.launch.nodes}",
        "--ntasks-per-node=1",
        f"--time={plan.launch.minutes}",
        "--open-mode=append",
        "--requeue",
    ]
    for name in ("partition", "account", "qos", "constraint", "reservation"):
        if value := getattr(request, name):
            options.append(f"--{name}={value}")
    if request.gres and cluster.gpus_per_node:
        options.append(f"--gres={request.gres}:{cluster.gpus_per_node}")
    if request.exclusive:
        options += ["--exclusive", "--mem=0"]
    return [*options, *(word for line in request.extra for word in shlex.split(line))]


def _no_request() -> SlurmRequest:
    from ltrl.spec import SlurmRequest

    return SlurmRequest()


def _mistakes(plan: Plan) -> Iterable[Diagnostic]:
    resolved, cluster = plan.resolved, plan.resolved.cluster
    request, container = cluster.slurm, cluster.container

    def wrong(path: str, message: str, hint: str | None = None) -> Diagnostic:
        return Diagnostic(Code.INVALID_VALUE, message, resolved.at(f"cluster.{path}"), hint)

    def one_line(path: str, value: str | None) -> Iterable[Diagnostic]:
        if value is not None and CONTROL.search(value):
            yield wrong(path, f"`{path}` holds a line break or control character: `{ascii(value)[1:-1]}`")

    if request:
        for name in ("partition", "account", "qos", "constraint", "reservation", "gres"):
            yield from one_line(f"slurm.{name}", getattr(request, name))
        for i, line in enumerate(request.extra):
            yield from one_line(f"slurm.extra.{i}", line)
            yield from _wrong_extra(f"slurm.extra.{i}", line, wrong)
    for i, line in enumerate(cluster.setup):
        if "\0" in line:
            yield wrong(f"setup.{i}", "a `setup` line holds a NUL character")
    for name, value in cluster.environment.items():
        if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
            yield wrong(f"environment.{name}", f"`{ascii(value)[1:-1]}` cannot be an environment variable")
    if container:
        yield from one_line("container.image", container.image)
        if container.image.startswith("-"):
            yield wrong("container.image", f"`{container.image}` is an option, not an image")
        for i, mount in enumerate(container.mounts):
            yield from one_line(f"container.mounts.{i}", mount)
            parts = mount.split(":")
            if len(parts) not in (2, 3) or not all(p.startswith("/") for p in parts[:2]) or "," in mount:
                message = f"a mount is `/source:/target[:options]` with absolute paths without commas, not `{mount}`"
                yield wrong(f"container.mounts.{i}", message)
        slurm_only, local_only = container.runtime == "pyxis", container.runtime in ("docker", "podman")
        if (slurm_only and cluster.executor == "local") or (local_only and cluster.executor == "slurm"):
            others = "`pyxis` or `apptainer`" if cluster.executor == "slurm" else "`docker`, `podman` or `apptainer`"
            message = f"the container runtime `{container.runtime}` does not go with `executor: {cluster.executor}`"
            yield wrong("container.runtime", message, f"use {others}")


def _wrong_extra(path: str, line: str, wrong: Any) -> Iterable[Diagnostic]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        yield wrong(path, f"`{line}` is not an option of sbatch: {str(error).lower()}")
        return
    if not words or not words[0].startswith("-"):
        yield wrong(path, f"`{line}` is not an option of sbatch", "write it as on the command line: `--switches=1`")


RUN, PROJECT = '"$LTRL_RUN_DIR"', '"$LTRL_PROJECT_DIR"'


def _pyxis(container: Container) -> list[str | Sh]:
    """Options of srun that start a step in the image, with pyxis."""
    mounts = "".join(f",{m}" for m in container.mounts)
    return [
        f"--container-image={container.image}",
        Sh(f"--container-mounts={RUN}:{RUN},{PROJECT}:{PROJECT}{sh(mounts) if mounts else ''}"),
        Sh(f"--container-workdir={RUN}"),
        "--no-container-mount-home",
    ]


def _inside(container: Container, cluster: ClusterProfile) -> list[str | Sh]:
    """The words before a command that run it in the image; none for pyxis, which is srun's."""
    match container.runtime:
        case "pyxis":
            return []
        case "apptainer":
            binds = [Sh(f"--bind={path}:{path}") for path in (RUN, PROJECT)]
            gpus = ["--nv"] if cluster.gpus_per_node else []
            return ["apptainer", "exec", *gpus, *binds, *(f"--bind={m}" for m in container.mounts),
                    Sh(f"--pwd={RUN}"), container.image]  # fmt: skip
        case "docker" | "podman" as runtime:
            names = ["LTRL_RUN_DIR", "LTRL_RUN_ID", "LTRL_ATTEMPT", "LTRL_PROJECT_DIR", *sorted(cluster.environment)]
            user: list[str | Sh] = ["--userns=keep-id"] if runtime == "podman" else [Sh('--user="$(id -u):$(id -g)"')]
            gpus = ["--gpus=all"] if runtime == "docker" else ["--device=nvidia.com/gpu=all"]
            return [runtime, "run", "--rm", "--init", "--network=host", "--ipc=host", *user,
                    *(gpus if cluster.gpus_per_node else []), *(f"--env={name}" for name in names),
                    *(Sh(f"--volume={path}:{path}") for path in (RUN, PROJECT)),
                    *(f"--volume={m}" for m in container.mounts),
                    Sh(f"--workdir={RUN}"), container.image]  # fmt: skip


def references(values: Iterable[str]) -> tuple[str, ...]:
    """Names of the submitter's variables that environment values refer to."""
    return tuple(sorted({name for value in values for name in REFERENCE.findall(value)}))
