"""Commands that serve: `ltrl serve reward`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

TOKEN = "LTRL_REWARD_TOKEN"

app = typer.Typer(name="serve", help="Serve a part of a spec over HTTP.", no_args_is_help=True)


@app.callback()
def _serve() -> None:
    """Keeps `reward` a name of its own while it is the only one."""


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
    import os

    from ltrl import source
    from ltrl.cli import show
    from ltrl.parse import parse
    from ltrl.server import ServerSettings, serve
    from ltrl.spec import Experiment

    experiment = parse(source.load(spec, overlays=overlay or (), sets=set_ or ()), Experiment)
    token = f"${{file:{token_file}}}" if token_file else f"${{env:{TOKEN}}}" if os.environ.get(TOKEN) else None
    settings = ServerSettings(
        name=experiment.name,
        reward=experiment.reward,
        host=host,
        port=port,
        workers=workers,
        token=token,
        concurrency=concurrency,
        max_body_bytes=max_body_mb * 2**20,
    )

    def tell(url: str) -> None:
        show.note(f"`{experiment.name}` is served on {url}; Ctrl-C ends it")

    serve(settings, on_listening=tell)
