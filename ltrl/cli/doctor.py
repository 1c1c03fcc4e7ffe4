"""`ltrl doctor`: what is here, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltrl.cli import complete

__all__ = ["doctor"]


def doctor(
    spec: Annotated[
        Path | None, typer.Argument(metavar="[SPEC]", help="What you want to train; by default nothing yet.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="NAME",
            help="Where; by default the one that the spec's engine prefers.",
            autocompletion=complete.clusters,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at this machine: what is here, and what is missing for a spec or a cluster; 1 when something is."""
    from dataclasses import asdict

    from ltrl import doctor
    from ltrl.cli import show
    from ltrl.cli.show import doctor as shown
    from ltrl.compile import cluster_profile, resolved
    from ltrl.project import root

    found, profile, name = None, None, cluster or ""
    if spec is not None:
        found = resolved(spec, cluster=cluster)
        profile, name = found.cluster, found.cluster_name
    elif cluster is not None:
        profile = cluster_profile(cluster, root(Path.cwd()))
    findings = doctor.examine(doctor.wanted(found, profile, name))
    lacking = [finding for finding in findings if finding.mark == "missing"]
    if as_json:
        show.json_({"ok": not lacking, "findings": [asdict(finding) for finding in findings]})
    else:
        shown.findings(findings)
    if lacking:
        raise typer.Exit(1)
