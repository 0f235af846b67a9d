"""Fixtures of the kernel tests: the machines, and the sweep of a group of kernels over cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import pytest

from ..support import Unavailable, miss
from .cases import Case, check
from .machines import Group, Machines, groups, manifest
from .summary import KernelSummary
from .worker import Kernel, Worker


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test item for each ISA, type and mode that is listed."""
    if "group" in metafunc.fixturenames:
        found = list(groups(metafunc.config.getoption("--kernel")))
        metafunc.parametrize("group", found or [None], ids=str)


@pytest.fixture(scope="session")
def machines() -> Iterator[Machines]:
    """Workers by architecture, kept for the session."""
    machines = Machines()
    yield machines
    machines.close()


@dataclass
class Sweep:
    """The kernels of a group and the worker that executes them."""

    worker: Worker
    kernels: list[Kernel]
    ran: Callable[[Kernel], None]

    def check(self, cases_of: Callable[[Kernel], Iterable[Case]]) -> None:
        """Run the cases of every kernel and fail with the first few findings."""
        check(self.worker, chain.from_iterable(map(cases_of, self.kernels)))
        for kernel in self.kernels:
            self.ran(kernel)


@pytest.fixture
def sweep(request: pytest.FixtureRequest, group: Group | None, machines: Machines) -> Sweep:
    """The kernels of the group on a machine that executes them."""
    summary = request.config.pluginmanager.get_plugin("tilewright-kernels")
    assert isinstance(summary, KernelSummary)
    if group is None:
        miss("no kernels are listed; run: python3 build.py")
    compiled = {kernel["name"] for kernel in manifest(group.arch) if kernel["compiled"]}
    names = [name for name in group.names if name in compiled]
    try:
        if not names:
            raise Unavailable(f"{group}: generated but not compiled")
        worker = machines.worker(group.arch, group.isa)
    except Unavailable as reason:
        summary.reasons[f"{group.arch}/{group.isa}"] = str(reason)
        miss(reason)
    missing = [name for name in names if name not in worker.kernels]
    assert not missing, f"compiled, says the manifest, but not in the library's table: {missing}"
    return Sweep(
        worker, [worker.kernels[name] for name in names], lambda kernel: summary.ran.add((group.arch, kernel.name))
    )
