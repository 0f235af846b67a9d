"""Matrix products of tokens: `gemm`, an operator of torch that runs on CPUs through `tilewright.runtime`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import tilewright.runtime as tw

from .errors import TokenError

__all__ = ["gemm", "matrix", "multiply_into"]

_SHORT = (torch.float16, torch.bfloat16)
_OWN = (torch.float32, torch.float64)


@torch.library.custom_op("tilewright::gemm", mutates_args=())
def gemm(a: Tensor, b: Tensor, trans_a: bool = False, trans_b: bool = False) -> Tensor:
    """Compute ``op(a) @ op(b)``, accumulated in float32 at least.

    An operator of torch (``torch.ops.tilewright.gemm``): differentiable, and `torch.compile` keeps it in the graph. On
    CPUs it runs through `tilewright.runtime.gemm`; on any other device it is torch's own product.

    Parameters
    ----------
    a : Tensor (m, k), or (k, m) with `trans_a`
        float32, float64, float16 or bfloat16; the last two are converted to float32, which for float16 is five times
        faster on CPUs than to multiply them as they are.
    b : Tensor (k, n), or (n, k) with `trans_b`
        On the device of `a`, of the same type.
    trans_a, trans_b : bool

    Returns
    -------
    Tensor (m, n)
        float64 for float64, else float32.

    Raises
    ------
    TokenError
        Shapes, types or devices do not fit.

    Examples
    --------
    >>> gemm(torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), trans_b=True)
    tensor([[1., 3.],
            [2., 4.]])
    """
    m, n = _check(a, b, trans_a, trans_b)
    x, y = _widened(a), _widened(b)
    if a.device.type != "cpu":
        return torch.matmul(x.mT if trans_a else x, y.mT if trans_b else y).contiguous()
    out = torch.empty(m, n, dtype=x.dtype)
    return multiply_into(out, x, y, trans_a=trans_a, trans_b=trans_b)


@gemm.register_fake
def _(a: Tensor, b: Tensor, trans_a: bool = False, trans_b: bool = False) -> Tensor:
    m, n = _check(a, b, trans_a, trans_b)
    return a.new_empty(m, n, dtype=torch.float32 if a.dtype in _SHORT else a.dtype)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, bool, bool], output: Tensor) -> None:
    a, b, ctx.trans_a, ctx.trans_b = inputs
    ctx.save_for_backward(a, b)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    """With C = op(A) op(B): the gradient of op(A) is G op(B)^T, that of op(B) is op(A)^T G."""
    a, b = ctx.saved_tensors
    grad_a = grad_b = None
    if ctx.needs_input_grad[0]:
        x = b.to(grad.dtype)
        grad_a = gemm(x, grad, ctx.trans_b, True) if ctx.trans_a else gemm(grad, x, False, not ctx.trans_b)
        grad_a = grad_a.to(a.dtype)
    if ctx.needs_input_grad[1]:
        x = a.to(grad.dtype)
        grad_b = gemm(grad, x, True, ctx.trans_a) if ctx.trans_b else gemm(x, grad, not ctx.trans_a, False)
        grad_b = grad_b.to(b.dtype)
    return grad_a, grad_b, None, None


gemm.register_autograd(_backward, setup_context=_setup_context)


def multiply_into(out: Tensor, a: Tensor, b: Tensor, *, trans_a: bool = False, trans_b: bool = False) -> Tensor:
    """Write ``op(a) @ op(b)`` into `out` through the runtime. All are on the CPU and of one type, no gradient."""
    x, y, c = (tensor.detach().resolve_neg().numpy() for tensor in (a, b, out))
    tw.gemm(x, y, out=c, trans_a="T" if trans_a else "N", trans_b="T" if trans_b else "N")
    return out


def matrix(tokens: Any, name: str) -> Tensor:
    """Return tokens, a tensor or an array, as a float32 matrix without gradient; float32 ones are not copied.

    Raises
    ------
    TokenError
        Not a matrix of real floating-point numbers.
    """
    tensor = tokens.detach() if isinstance(tokens, Tensor) else torch.as_tensor(tokens)
    if tensor.ndim != 2 or not tensor.is_floating_point():
        raise TokenError(
            f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}; it must be (tokens, features), floating point."
        )
    return tensor.float()


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in _SHORT else tensor


def _check(a: Tensor, b: Tensor, trans_a: bool, trans_b: bool) -> tuple[Any, Any]:
    """Return m and n, as numbers or as what stands for them in a traced graph."""
    if a.ndim != 2 or b.ndim != 2:
        raise TokenError(f"gemm: a is {tuple(a.shape)} and b is {tuple(b.shape)}: both must have two dimensions.")
    if a.dtype != b.dtype or a.dtype not in (*_OWN, *_SHORT):
        raise TokenError(f"gemm: a is {a.dtype}, b is {b.dtype}: both must be float32, float64, float16 or bfloat16.")
    if a.device != b.device:
        raise TokenError(f"gemm: a is on {a.device} but b is on {b.device}: move one to the other.")
    m, k = a.shape[::-1] if trans_a else a.shape
    k_of_b, n = b.shape[::-1] if trans_b else b.shape
    fit: Any = torch._check  # also for sizes that a traced graph does not know yet
    fit(k == k_of_b, lambda: f"gemm: op(a) has {k} columns but op(b) has {k_of_b} rows: they must be equal.")
    return m, n
