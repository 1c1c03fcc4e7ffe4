"""Findings as a table, what is missing first said at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ltrl.cli.show import note
from ltrl.doctor import Finding

__all__ = ["findings"]

SIGNS = {"ok": ("ok", "green"), "missing": ("MISSING", "bold red"), "unsure": ("?", "yellow"), "absent": ("-", "dim")}


def findings(found: Sequence[Finding]) -> None:
    """Prints every finding, with the command that mends it below."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for header in ("", "what", "found"):
        table.add_column(header, overflow="fold")
    area = ""
    for finding in found:
        if finding.area != area:
            area = finding.area
            table.add_row("", Text(area, style="bold"), "")
        sign, style = SIGNS[finding.mark]
        text = Text(finding.found, style="dim" if finding.mark == "absent" else "")
        if finding.mark in ("missing", "unsure"):
            text.append(f"\nfor {finding.wanted_for}" if finding.wanted_for else "", style="dim")
            text.append(f"\n-> {finding.fix}" if finding.fix else "", style="cyan")
        table.add_row(Text(sign, style=style), Text(f"  {finding.name}"), text)
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)
    lacking = [f"{finding.area}: {finding.name}" for finding in found if finding.mark == "missing"]
    note(f"missing: {', '.join(lacking)}" if lacking else "nothing is missing for this")
