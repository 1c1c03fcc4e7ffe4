"""Reports as one HTML file that needs nothing else."""

from ltrl.cli.show.report.page import page

__all__ = ["page"]
