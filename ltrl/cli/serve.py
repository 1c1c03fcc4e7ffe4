"""Commands that serve: `ltrl serve reward`, `ltrl serve model`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ltrl.cli import complete

__all__ = ["app"]

TOKEN = "LTRL_REWARD_TOKEN"
MODEL_TOKEN = "LTRL_MODEL_TOKEN"

app = typer.Typer(name="serve", help="Serve the reward of a spec or a trained model over HTTP.", no_args_is_help=True)


@app.command()
def reward(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The spec whose reward is served.")],
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; any but a loopback address needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes any free one.")] = 8700,
    workers: Annotated[int, typer.Option("--workers", min=1, max=256, help="Processes.")] = 1,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=4096, help="Requests that a process scores at once.")
    ] = 256,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help=f"Token of the clients; by default ${TOKEN}, if set."),
    ] = None,
    max_body_mb: Annotated[int, typer.Option("--max-body-mb", min=1, help="Longest request, in MiB.")] = 64,
    overlay: Annotated[
        list[Path] | None, typer.Option("-f", "--overlay", metavar="FILE", help="Put a file's values on top.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set one field: `--set reward.eta=0.5`.")
    ] = None,
) -> None:
    """Score responses over HTTP: `/v1/score`, and `/evaluate` as slime runs of LongTraceRL ask."""
    from ltrl import source
    from ltrl.cli import show
    from ltrl.parse import parse
    from ltrl.server import ServerSettings, serve
    from ltrl.spec import Experiment

    experiment = parse(source.load(spec, overlays=overlay or (), sets=set_ or ()), Experiment)
    settings = ServerSettings(
        name=experiment.name,
        reward=experiment.reward,
        host=host,
        port=port,
        workers=workers,
        token=_token(token_file, TOKEN),
        concurrency=concurrency,
        max_body_bytes=max_body_mb * 2**20,
    )

    def tell(url: str) -> None:
        show.note(f"`{experiment.name}` is served on {url}; Ctrl-C ends it")

    serve(settings, on_listening=tell)


@app.command()
def model(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN[@STEP]|DIR",
            help="A run, by default its newest checkpoint; or a checkpoint or model directory.",
            autocompletion=complete.runs,
        ),
    ],
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; any but a loopback address needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes any free one.")] = 8800,
    name: Annotated[
        str | None, typer.Option("--name", help="What requests call the model; by default RUN@STEP or DIR's name.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help=f"Token of the clients; by default ${MODEL_TOKEN}, if set."),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where the model runs.")] = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="CPU threads; by default PyTorch's choice.")
    ] = None,
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, help="Completions under way at once.")] = 64,
) -> None:
    """Answer chats with a trained model over HTTP, as OpenAI's API does: `/v1/chat/completions`."""
    from ltrl.backend import ModelServer, Serves, load
    from ltrl.cli import show
    from ltrl.cli.which import checkpoint
    from ltrl.errors import Code, fail
    from ltrl.project import root

    engine, directory, called = "local", Path(target), Path(target).resolve().name
    if not any((directory / file).is_file() for file in ("config.json", "training_info.json")):
        chosen = checkpoint(target, project=root(Path.cwd()))
        engine, directory, called = chosen.run.engine, chosen.directory, f"{chosen.run.id}@{chosen.step}"
    backend = load("engine", engine)
    if not isinstance(backend, Serves):
        hint = f"`ltrl export {target} --to hf DIR`, then `ltrl serve model DIR`, or vLLM"
        raise fail(Code.ENGINE_LIMIT, f"a checkpoint of `{engine}` is not served as it is", hint=hint)
    settings = ModelServer(
        name or called,
        host,
        port,
        _token(token_file, MODEL_TOKEN),
        device=device,
        threads=threads,
        max_batch=max_batch,
    )

    def tell(url: str) -> None:
        show.note(f"`{settings.name}` is served on {url}; Ctrl-C ends it")

    backend.serve(directory, settings, on_listening=tell)


def _token(file: Path | None, variable: str) -> str | None:
    """Where the clients' token is found."""
    import os

    return f"${{file:{file}}}" if file else f"${{env:{variable}}}" if os.environ.get(variable) else None
