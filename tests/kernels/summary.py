"""The table at the end of a session: kernels listed, run and skipped per ISA. In CI they may not differ."""

from __future__ import annotations

from typing import Any

import pytest

from ..support import CI
from .machines import ARCHES, manifest


class KernelSummary:
    """Collects which kernels ran, over pytest-xdist's processes too, and fails a CI session that left one out."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._swept = False
        self.ran: set[tuple[str, str]] = set()  # (arch, kernel name)
        self.reasons: dict[str, str] = {}  # "arch/isa" -> why its kernels were skipped

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """The table is only for sessions that sweep the kernels."""
        self._swept |= any(item.path.name == "test_kernels.py" for item in items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Add what a process of pytest-xdist ran."""
        output = getattr(node, "workeroutput", {})
        self._swept |= output.get("tilewright_swept", False)
        self.ran |= {(arch, name) for arch, name in output.get("tilewright_ran", [])}
        self.reasons |= output.get("tilewright_reasons", {})

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand over to the controlling process, or judge."""
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput.update(
                tilewright_swept=self._swept, tilewright_ran=sorted(self.ran), tilewright_reasons=self.reasons
            )
        elif CI and self._swept and any(listed != ran for _, listed, ran in self._rows()) and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table."""
        if not self._swept:
            return
        terminalreporter.section("kernels")
        for where, listed, ran in self._rows():
            reason = f"   {self.reasons.get(where, '')}".rstrip()
            terminalreporter.line(
                f"{where:16} {listed:5} listed {ran:5} run {listed - ran:5} skipped{reason}", red=CI and listed != ran
            )

    def _rows(self) -> list[tuple[str, int, int]]:
        rows = []
        for arch in ARCHES:
            kernels = manifest(arch)
            if not kernels:  # as bad as a kernel that did not run
                self.reasons[arch] = "no manifest: python3 build.py generates it"
                rows.append((arch, 1, 0))
            for isa in dict.fromkeys(kernel["isa"] for kernel in kernels):
                names = [kernel["name"] for kernel in kernels if kernel["isa"] == isa]
                rows.append((f"{arch}/{isa}", len(names), sum((arch, name) in self.ran for name in names)))
        return rows
