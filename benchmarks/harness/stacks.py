"""A stack of equal linear layers that read the same tokens, and the ways to run it: what `bench linear` compares.

y = x W^T for each of the layers, float32, without bias. A stack is larger than the caches, so that every layer's weight
comes from memory, as it does in a model; the outputs of all layers are returned, and nobody may leave one out.
"""

from __future__ import annotations

import copy
import importlib.metadata
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from tilewright import runtime

from . import THREADS, timing
from .problem import Array
from .rivals import AbsentError

Run = Callable[[], list[Array]]
BEYOND = 192 << 20
"""Bytes of weights that no cache of the machines measured so far holds."""


class Stack(nn.Module):
    """So many linear layers, each with a weight of its own, that read the same tokens."""

    def __init__(self, outputs: int, inputs: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs, bias=False) for _ in range(layers))

    def weights(self) -> list[Array]:
        """Return the weights as they lie in memory, outputs x inputs."""
        return [parameter.detach().numpy() for parameter in self.parameters()]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return every layer's output."""
        return [layer(x) for layer in self.layers]


def make(outputs: int, inputs: int, beyond: int = BEYOND) -> Stack:
    """Return a stack whose weights are normally distributed and take at least `beyond` bytes, two layers at least."""
    with torch.device("meta"):
        stack = Stack(outputs, inputs, max(2, -(-beyond // (4 * outputs * inputs))))
    stack.to_empty(device="cpu")
    random = np.random.default_rng(outputs * 10**6 + inputs)
    for weight in stack.weights():
        random.standard_normal(out=weight, dtype=np.float32)
    return stack.eval()


class Checked:
    """A stack's right outputs for some tokens, computed in float64, and how far an element may be from them.

    The operands are of both signs: summed one after the other, an element's error has a deviation of 0.4 u times the
    norms of its token and its row of W; 16 u times these are allowed.
    """

    def __init__(self, stack: Stack, x: Array) -> None:
        weights = stack.weights()
        wide = x.astype(np.float64)
        self._exact = [wide @ w.T.astype(np.float64) for w in weights]
        norms = [np.sqrt(np.einsum("ij,ij->i", w, w, dtype=np.float64)) for w in weights]
        tokens = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        self._bounds = [16 * 2.0**-24 * tokens[:, np.newaxis] * norm for norm in norms]

    def excess(self, outputs: list[Array]) -> float:
        """Return the largest error over its bound for the first tokens; NaN if an output holds any or is missing."""
        if len(outputs) != len(self._exact):
            return float("nan")
        worst = 0.0
        for y, exact, bound in zip(outputs, self._exact, self._bounds, strict=True):
            tokens = len(y)
            worst = max(worst, float(np.max(np.abs(y - exact[:tokens]) / bound[:tokens])), key=_nan_first)
        return worst


def _nan_first(value: float) -> float:
    return float("inf") if value != value else value


class Way(ABC):
    """One way to run a stack."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    @abstractmethod
    def run(self, x: Array) -> Run:
        """Return what multiplies these tokens, made ready."""


class Eager(Way):
    """torch as it comes: F.linear of every layer."""

    def run(self, x: Array) -> Run:
        module, tokens = self.module(), torch.from_numpy(x)
        return lambda: [y.numpy() for y in module(tokens)]

    def module(self) -> Callable[[Tensor], list[Tensor]]:
        """Return what is called with the tokens."""
        return self.stack


class Compiled(Eager):
    """torch.compile as it comes, a graph for each number of tokens."""

    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        # What was tuned depends on the number of threads, and may not come from another program's busy minute.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(timing.BUILD / f"inductor-{THREADS}")
        torch.compiler.reset()
        self._compiled = torch.compile(self.stack, dynamic=False, options=self.options or None)

    def run(self, x: Array) -> Run:
        # Dynamo reads from its own settings whether weights are constants; a graph's options come too late for it.
        with torch._dynamo.config.patch(recompile_limit=1000), torch._inductor.config.patch(self.options):
            self._compiled(torch.from_numpy(x))
        return super().run(x)

    def module(self) -> Callable[[Tensor], list[Tensor]]:
        """Return the compiled stack."""
        return self._compiled


class Frozen(Compiled):
    """torch.compile with max-autotune and its weights frozen: constants that it may lay out as it likes."""

    options: ClassVar[dict[str, Any]] = {"max_autotune": True, "freezing": True}


class Packed(Eager):
    """Ours: the stack after `pack_linears`."""

    def __init__(self, stack: Stack) -> None:
        from tilewright.runtime.torch import pack_linears

        super().__init__(copy.deepcopy(stack))
        report = pack_linears(self.stack, threads=THREADS)
        if report.left:
            raise RuntimeError(f"layers were left unpacked:\n{report}")


class Product(Way):
    """Ours without a module around it: plans that take the weight packed, arrays in, arrays out."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        weights = stack.weights()
        self._n, self._k = weights[0].shape
        plan = self._plan(1)
        self._packed = [plan.pack(w) for w in weights]

    def _plan(self, tokens: int) -> Any:
        return runtime.skinny_plan(
            tokens, self._n, self._k, np.float32, trans_b="T", pack="b", reuse=10**6, threads=THREADS
        )

    def run(self, x: Array) -> Run:
        plan = self._plan(len(x))
        return lambda: [plan(x, packed) for packed in self._packed]


class Onnx(Way):
    """onnxruntime: a MatMul a layer, the weights constants, which it packs as it loads."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        try:
            import onnx
        except ImportError as error:
            raise AbsentError(f"{error} (PyPI: pyproject's extra `bench`)") from None
        helper, real = onnx.helper, onnx.TensorProto.FLOAT
        weights = [np.ascontiguousarray(w.T) for w in stack.weights()]
        (inputs, outputs), count = weights[0].shape, len(weights)
        names = [f"y{i}" for i in range(count)]
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", f"w{i}"], [f"y{i}"]) for i in range(count)], "stack",
            [helper.make_tensor_value_info("x", real, ["tokens", inputs])],
            [helper.make_tensor_value_info(name, real, ["tokens", outputs]) for name in names],
            [outside(f"w{i}", w.shape) for i, w in enumerate(weights)],
        )  # fmt: skip
        self._names, self._weights = names, {f"w{i}": w for i, w in enumerate(weights)}
        self._session = session(graph, self._weights)

    def run(self, x: Array) -> Run:
        bound = self._session.io_binding()
        bound.bind_cpu_input("x", x)
        for name in self._names:
            bound.bind_output(name, "cpu")

        def run() -> list[Array]:
            self._session.run_with_iobinding(bound)
            return [value.numpy() for value in bound.get_outputs()]

        return run


def outside(name: str, shape: tuple[int, ...]) -> Any:
    """Return an initialiser whose content is given to the session beside the graph: protobuf ends at 2 GB."""
    import onnx

    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=name)
    return tensor


def session(graph: Any, weights: Mapping[str, Array], domains: Sequence[str] = ()) -> Any:
    """Return onnxruntime's session of a graph on `THREADS` threads, the contents of its weights taken from `weights`.

    What it does not lay out anew it uses where it lies: the caller keeps `weights` as long as the session.
    """
    import onnx
    import onnxruntime

    imports = [onnx.helper.make_opsetid("", 21), *(onnx.helper.make_opsetid(domain, 1) for domain in domains)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(w) for w in weights.values()]
    options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


WAYS: dict[str, Callable[[Stack], Way]] = {
    "torch": Eager,
    "compile": Compiled,
    "max-autotune": Frozen,
    "onnxruntime": Onnx,
    "product": Product,
    "tilewright": Packed,
}
RIVALS = ("torch", "compile", "max-autotune", "onnxruntime")


def versions() -> dict[str, str]:
    """Return what is compared, by package."""
    found = {}
    for name in ("torch", "onnxruntime", "tilewright"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not there"
    return found
