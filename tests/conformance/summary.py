"""What the suites themselves say, shown at the end of the session word for word."""

from __future__ import annotations

from typing import Any

PROPERTY = "conformance"


class ConformanceSummary:
    """Prints the lines that tests kept with the `report` fixture, in processes of pytest-xdist too."""

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print them."""
        reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
        lines = [line for report in reports for name, line in report.user_properties if name == PROPERTY]
        if lines:
            terminalreporter.section(PROPERTY)
            terminalreporter.write_line("\n".join(lines))
