"""The operator of torch: its values, its gradient, its place in a compiled graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tilewright import topv

pytestmark = pytest.mark.topv
flags = st.booleans()


@given(m=st.integers(0, 20), n=st.integers(0, 20), k=st.integers(0, 20), trans_a=flags, trans_b=flags,
       dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]))  # fmt: skip
def test_values(m: int, n: int, k: int, trans_a: bool, trans_b: bool, dtype: torch.dtype) -> None:
    """Small integers are exact in every type; strides of a view read as those of a copy would show."""
    random = torch.Generator().manual_seed(m * 441 + n * 21 + k)
    a = torch.randint(-3, 4, (m, 2 * k), generator=random).to(dtype)[:, ::2]
    b = torch.randint(-3, 4, (k, n), generator=random).to(dtype)
    got = topv.gemm(a.T.contiguous() if trans_a else a, b.mT if trans_b else b, trans_a, trans_b)
    assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(got.double(), a.double() @ b.double())


@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("trans_b", [False, True])
def test_operator_keeps_torchs_rules(trans_a: bool, trans_b: bool) -> None:
    """torch's own check: schema, fake tensors, autograd, static and dynamic shapes; and the gradient by differences."""
    a = torch.randn((3, 5) if trans_a else (5, 3), dtype=torch.float64, requires_grad=True)
    b = torch.randn((4, 3) if trans_b else (3, 4), dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(topv.gemm, (a, b, trans_a, trans_b))
    assert torch.autograd.gradcheck(lambda x, y: topv.gemm(x, y, trans_a, trans_b), (a, b))


def test_gradients_come_back_in_the_operands_type() -> None:
    """A float32 gradient for a bfloat16 weight is an error in the optimiser, far from its cause."""
    a = torch.randn(4, 3, dtype=torch.bfloat16, requires_grad=True)
    b = torch.randn(5, 3, dtype=torch.bfloat16, requires_grad=True)
    topv.gemm(a, b, False, True).sum().backward()
    assert a.grad is not None
    assert a.grad.dtype == torch.bfloat16
    torch.testing.assert_close(a.grad.float(), b.detach().float().sum(0).expand(4, 3), rtol=1e-2, atol=1e-2)


def test_compiles_without_a_graph_break() -> None:
    """An operator without a fake is opaque to the compiler: fullgraph=True then raises."""

    @torch.compile(fullgraph=True, backend="aot_eager", dynamic=True)
    def scores(x: torch.Tensor, y: torch.Tensor) -> Any:
        return topv.gemm(x.relu(), y, False, True).softmax(1)

    for n in (4, 7):
        x, y = torch.randn(n, 6, requires_grad=True), torch.randn(n + 1, 6)
        torch.testing.assert_close(scores(x, y), (x.relu() @ y.T).softmax(1))


@pytest.mark.parametrize(
    ("a", "b", "error", "words"),
    [
        (torch.ones(2, 3), torch.ones(2, 3), RuntimeError, "3 columns but op.b. has 2 rows"),
        (torch.ones(2), torch.ones(2, 3), topv.TokenError, "two dimensions"),
        (torch.ones(2, 3), torch.ones(3, 2).double(), topv.TokenError, "torch.float64"),
        (torch.ones(2, 3, dtype=torch.int64), torch.ones(3, 2, dtype=torch.int64), topv.TokenError, "must be float32"),
    ],
)
def test_bad_input(a: torch.Tensor, b: torch.Tensor, error: type[Exception], words: str) -> None:
    """What torch would promote or broadcast is refused in words."""
    with pytest.raises(error, match=words):
        topv.gemm(a, b)
