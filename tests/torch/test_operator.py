"""``torch.ops.tilewright.linear``: its values, torch's own rules for operators, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

import tilewright.runtime as tw
from tilewright.runtime import torch_op
from tilewright.runtime.torch_op import ACTIVATIONS, linear, pack, unpack

from ..support import miss

pytestmark = pytest.mark.topv


def applied(name: str, z: Tensor) -> Tensor:
    """torch's own activation."""
    if name.startswith("gelu"):
        return functional.gelu(z, approximate="tanh" if name == "gelu_tanh" else "none")
    functions: dict[str, Any] = {"none": lambda x: x, "relu": functional.relu, "silu": functional.silu}
    out: Tensor = functions[name](z)
    return out


@given(
    lead=st.lists(st.integers(0, 4), max_size=3), features=st.sampled_from([1, 5, 64, 300]),
    out=st.sampled_from([1, 7, 48, 100]), biased=st.booleans(), activation=st.sampled_from(sorted(ACTIVATIONS)),
    strided=st.booleans(), by_columns=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_values(
    lead: list[int], features: int, out: int, biased: bool, activation: str, strided: bool, by_columns: bool
) -> None:
    """Leading dimensions folded wrongly; strides of a view, or of a weight by columns, read as those of a copy."""
    random = torch.Generator().manual_seed(features * 101 + out)
    x = torch.randint(-3, 4, (*lead, 2 * features if strided else features), generator=random).float()
    x = x[..., ::2] if strided else x
    w = torch.randint(-3, 4, (features, out) if by_columns else (out, features), generator=random).float()
    w = w.T if by_columns else w
    b = torch.randint(-3, 4, (out,), generator=random).float() if biased else None
    got = linear(x, pack(w), b, out, activation)
    wanted = applied(activation, functional.linear(x.double(), w.double(), None if b is None else b.double()))
    assert got.shape == wanted.shape
    if activation in ("none", "relu"):  # integers are exact
        assert torch.equal(got.double(), wanted)
    else:
        torch.testing.assert_close(
            got.double(), wanted, rtol=1e-5, atol=1e-13
        )  # torch cancels where the result is small


@pytest.mark.parametrize("activation", ["none", "gelu"])
@pytest.mark.parametrize("lead", [(3,), (2, 5), ()])
def test_operator_keeps_torchs_rules(activation: str, lead: tuple[int, ...]) -> None:
    """torch's own check: schema, fake tensors, static and dynamic shapes."""
    weight, bias = torch.randn(7, 6), torch.randn(7)
    torch.library.opcheck(linear, (torch.randn(*lead, 6), pack(weight), bias, 7, activation))
    torch.library.opcheck(linear, (torch.randn(*lead, 6), pack(weight), None, 7, activation, 1))


def test_torchs_threads_do_the_work() -> None:
    """A pool of our own beside torch's, whose threads spin on its cores; a child waiting for its parent's threads."""
    if torch_op._team == 0:
        miss("torch has no OpenMP here")
    code = """
import os, signal, torch
from pathlib import Path
import tilewright.runtime as tw
from tilewright.runtime.torch_op import linear, pack
tw.set_num_threads(2)  # on one core too
torch.set_num_threads(2)
x, w = torch.randn(200, 512), torch.randn(1024, 512)
packed = pack(w)
y = linear(x, packed, None, 1024, "none")
assert torch.allclose(y, torch.nn.functional.linear(x, w), atol=1e-3)
tasks = Path("/proc/self/task")
names = {path.read_text() for path in tasks.glob("*/comm")}
assert "tilewright\\n" not in names, names
torch.set_num_threads(3)
seen = set()
for turn in range(50):
    linear(x, packed, None, 1024, "none", 2)
    torch.ones(1000, 1000).tanh()
    seen |= {path.name for path in tasks.iterdir()}
assert len(seen) < 10, seen  # a team that grows and shrinks ends threads and makes new ones
torch.set_num_threads(2)
child = os.fork()
if child == 0:  # torch's own operations hang here
    signal.alarm(60)
    os._exit(linear(x, packed, None, 1024, "none").numpy().tobytes() != y.numpy().tobytes())
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr


@given(rows=st.sampled_from([1, 47, 48, 49, 100]), columns=st.sampled_from([1, 8, 33]), in_place=st.booleans())
@settings(max_examples=20, deadline=None)
def test_unpacking(rows: int, columns: int, in_place: bool) -> None:
    """Bits, NaN's too."""
    random = torch.Generator().manual_seed(rows)
    weight = torch.randint(-(2**31), 2**31, (rows, columns), generator=random).int().view(torch.float32)
    back = unpack(pack(weight), rows, columns, in_place=in_place)
    assert torch.equal(back.view(torch.int32), weight.view(torch.int32))


def test_compiles_without_a_graph_break() -> None:
    """An operator without a fake is opaque to the compiler: fullgraph=True then raises."""
    weight, bias = torch.randn(9, 6), torch.randn(9)
    packed = pack(weight)

    @torch.compile(fullgraph=True, backend="aot_eager", dynamic=True)
    def layer(x: Tensor) -> Any:
        return torch.ops.tilewright.linear(x.relu(), packed, bias, 9, "silu").sum(1)

    for n in (4, 7):
        x = torch.randn(n, 6)
        wanted = functional.silu(functional.linear(x.relu(), weight, bias)).sum(1)
        torch.testing.assert_close(layer(x), wanted)


X, W = torch.ones(2, 6), pack(torch.ones(7, 6))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((X.double(), W, None, 7, "none"), tw.DtypeError, "x is torch.float64; with a packed weight it must be"),
        ((X[:, :5], W, None, 7, "none"), tw.ShapeError, "x has 5 features and out_features is 7, which takes a packed"),
        ((X, W, None, 8, "none"), tw.ShapeError, "out_features is 8"),
        ((X.sum(), W, None, 7, "none"), tw.ShapeError, "x has no dimensions"),
        ((X, W.float(), None, 7, "none"), tw.PackedError, "packed is torch.float32"),
        ((X, torch.zeros_like(W), None, 7, "none"), tw.PackedError, "not a packed operand"),
        ((X, W, torch.ones(6), 7, "none"), tw.ShapeError, "bias is torch.float32 of shape (6,)"),
        ((X, W, torch.ones(7).double(), 7, "none"), tw.ShapeError, "bias is torch.float64"),
        ((X, W, None, 7, "tanh"), tw.ArgumentError, "activation is 'tanh'; it must be one of none, relu, silu, gelu,"),
        ((X.clone().requires_grad_(), W, None, 7, "none"), tw.ArgumentError, "has no gradient"),
        ((X, W, None, 7, "none", -1), tw.ArgumentError, "-1 threads"),
    ],
)
def test_bad_input(arguments: Any, error: type[Exception], words: str) -> None:
    """Bytes that are no packed weight, read as one."""
    with pytest.raises(error) as refused:
        linear(*arguments)
    assert words in str(refused.value)


def test_weights_that_cannot_be_packed() -> None:
    """A type read as another; a size that does not fit."""
    with pytest.raises(tw.DtypeError, match=r"weight is torch\.float64 of shape"):
        pack(torch.ones(2, 2).double())
    with pytest.raises(tw.LayoutError, match="bytes do not hold 2 x 2 elements"):
        unpack(W, 2, 2)
