"""The four BLAS types, and the modes a kernel can have."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DTYPES", "MODES", "Dtype", "Mode"]


@dataclass(frozen=True, slots=True)
class Dtype:
    """A BLAS type: its letter, the bytes of its real part, and whether an element has two of them."""

    letter: str
    real_bytes: int
    complex: bool

    @property
    def reals(self) -> int:
        """Real numbers in an element."""
        return 2 if self.complex else 1

    @property
    def bytes(self) -> int:
        """Bytes of an element."""
        return self.real_bytes * self.reals

    @property
    def real_c(self) -> str:
        """C type of the real part."""
        return "float" if self.real_bytes == 4 else "double"


@dataclass(frozen=True, slots=True)
class Mode:
    """What happens to A and B before they are multiplied, column-major.

    n as stored, t transposed, c conjugate transposed.  In "nc", "cn" and "tc" one operand is conjugated inside the k
    loop, for ISAs whose accumulators cannot take it back later.
    """

    name: str

    @property
    def a_transposed(self) -> bool:
        """Whether A is stored k x m."""
        return self.name[0] != "n"

    @property
    def b_transposed(self) -> bool:
        """Whether B is stored n x k."""
        return self.name[1] != "n"

    @property
    def conjugates(self) -> tuple[bool, bool]:
        """Whether A, and whether B, is conjugated."""
        return self.name[0] == "c", self.name[1] == "c"


DTYPES = {d.letter: d for d in (Dtype("s", 4, False), Dtype("d", 8, False), Dtype("c", 4, True), Dtype("z", 8, True))}
MODES = {name: Mode(name) for name in ("nn", "nt", "tn", "tt", "nc", "cn", "tc")}
