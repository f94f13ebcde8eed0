"""A report of a run: one HTML file that needs nothing else, for a screen, a phone or paper."""

from __future__ import annotations

from xglof.report.write import write_report

__all__ = ["write_report"]
