"""The decoder in onnxruntime: the graph that its own model builder would write, with the operators made for this.

SimplifiedLayerNormalization, GroupQueryAttention with rotation and a cache that is written in place, MatMul. The vision
tower and the embeddings are torch's, eager: onnxruntime has the part that generates.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from harness.rivals import AbsentError
from torch import Tensor

from .model import Size, embed, make
from .way import Way

MICROSOFT = "com.microsoft"


class Decoder(Way):
    """onnxruntime from the embeddings on."""

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        try:
            import onnxruntime
        except ImportError as error:
            raise AbsentError(f"{error} (PyPI: pyproject's extra `bench`)") from None
        from harness.stacks import session

        self._ort = onnxruntime
        self.model = make(size)
        weights, epsilon = self._take()
        shapes = {name: weight.shape for name, weight in weights.items()}
        begun = time.perf_counter()
        self._session = session(graph(size, shapes, epsilon), weights, [MICROSOFT])
        self.ready["packing"] = time.perf_counter() - begun
        # Matrices were laid out anew; the rest is used where it lies.
        self._weights = {name: weight for name, weight in weights.items() if not name.endswith("_proj")}

    def _take(self) -> tuple[dict[str, Any], float]:
        """Take the decoder's weights out of the model, in x out, so that nothing is held twice for long."""
        text = self.model.model.language_model
        weights: dict[str, Any] = {}
        angles = torch.outer(torch.arange(self.room, dtype=torch.float32), text.rotary_emb.inv_freq).numpy()
        weights |= {"cos": np.cos(angles), "sin": np.sin(angles), "norm": text.norm.weight.detach().numpy()}
        epsilon = text.norm.variance_epsilon
        for number in range(self.size.layers):
            layer = text.layers[number]
            for name, module in (("before", layer.input_layernorm), ("after", layer.post_attention_layernorm)):
                weights[f"{number}.{name}"] = module.weight.detach().numpy()
            for part in (layer.self_attn, layer.mlp):
                for name, module in part.named_children():
                    if name.endswith("_proj"):
                        weights[f"{number}.{name}"] = np.ascontiguousarray(module.weight.detach().numpy().T)
            text.layers[number] = torch.nn.Identity()
        weights["head_proj"] = np.ascontiguousarray(self.model.lm_head.weight.detach().numpy().T)
        self.model.lm_head = torch.nn.Identity()
        return weights, float(epsilon)

    @property
    def room(self) -> int:
        """Tokens that the cache has room for."""
        return self.size.prompt + self.size.new

    def prefill(self, inputs: dict[str, Tensor]) -> tuple[Any, Any]:
        size = self.size
        shape = 1, size.heads, self.room, size.hidden // size.heads
        cache = {"past": 0, **{name: self._value(np.zeros(shape, np.float32)) for name in caches(size)}}
        return self._run(embed(self.model, inputs), cache), cache

    def step(self, tokens: Tensor, cache: Any) -> Any:
        return self._run(embed(self.model, {"input_ids": tokens}), cache)

    def widen(self, cache: Any, rows: int) -> Any:
        for name in caches(self.size):
            cache[name] = self._value(np.repeat(cache[name].numpy(), rows, 0))
        return cache

    def nbytes(self, cache: Any) -> int:
        return sum(cache[name].numpy().nbytes for name in caches(self.size))

    def _value(self, array: Any) -> Any:
        value = self._ort.OrtValue.ortvalue_from_numpy(array)
        value.keeps = array
        return value

    def _run(self, embedded: Tensor, cache: Any) -> Tensor:
        rows, tokens, _ = embedded.shape
        cache["past"] += tokens
        bound = self._session.io_binding()
        bound.bind_cpu_input("x", embedded.numpy())
        bound.bind_cpu_input("last", np.full(rows, cache["past"] - 1, np.int32))
        bound.bind_cpu_input("total", np.array(cache["past"], np.int32))
        for name in caches(self.size):
            bound.bind_ortvalue_input(name, cache[name])
            bound.bind_ortvalue_output(f"{name}.out", cache[name])
        bound.bind_output("logits", "cpu")
        self._session.run_with_iobinding(bound)
        return torch.from_numpy(bound.get_outputs()[-1].numpy())[:, 0]


def caches(size: Size) -> list[str]:
    """Return the names of keys and values."""
    return [f"{number}.{part}" for number in range(size.layers) for part in ("keys", "values")]


def graph(size: Size, shapes: dict[str, tuple[int, ...]], epsilon: float) -> Any:
    """Return the decoder's graph: embeddings, lengths and cache in; cache and the last token's logits out."""
    from harness.stacks import outside
    from onnx import TensorProto, helper

    real, whole = TensorProto.FLOAT, TensorProto.INT32
    nodes: list[Any] = []

    def add(kind: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]

    def norm(x: str, name: str) -> str:
        return add("SimplifiedLayerNormalization", [x, name], [f"{name}.y"], axis=-1, epsilon=epsilon, stash_type=1)

    def linear(x: str, name: str) -> str:
        return add("MatMul", [x, name], [f"{name}.y"])

    x = "x"
    for number in range(size.layers):
        before = norm(x, f"{number}.before")
        q, k, v = (linear(before, f"{number}.{letter}_proj") for letter in "qkv")
        past = [f"{number}.keys", f"{number}.values"]
        attended = add(
            "GroupQueryAttention", [q, k, v, *past, "last", "total", "cos", "sin"],
            [f"{number}.attended", *(f"{name}.out" for name in past)], MICROSOFT,
            num_heads=size.heads, kv_num_heads=size.heads, do_rotary=1, rotary_interleaved=0,
        )  # fmt: skip
        x = add("Add", [x, linear(attended, f"{number}.o_proj")], [f"{number}.x"])
        after = norm(x, f"{number}.after")
        gate = linear(after, f"{number}.gate_proj")
        silu = add("Mul", [gate, add("Sigmoid", [gate], [f"{number}.sigmoid"])], [f"{number}.silu"])
        inner = add("Mul", [silu, linear(after, f"{number}.up_proj")], [f"{number}.inner"])
        x = add("Add", [x, linear(inner, f"{number}.down_proj")], [f"{number}.y"])
    add("Slice", [norm(x, "norm"), "minus one", "end", "axis"], ["final"])
    add("MatMul", ["final", "head_proj"], ["logits"])
    cache: list[Any] = ["rows", size.heads, "room", size.hidden // size.heads]
    values = {"minus one": [-1], "end": [2**31 - 1], "axis": [1]}
    return helper.make_graph(
        nodes, "decoder",
        [helper.make_tensor_value_info("x", real, ["rows", "tokens", size.hidden]),
         helper.make_tensor_value_info("last", whole, ["rows"]), helper.make_tensor_value_info("total", whole, []),
         *(helper.make_tensor_value_info(name, real, cache) for name in caches(size))],
        [*(helper.make_tensor_value_info(f"{name}.out", real, cache) for name in caches(size)),
         helper.make_tensor_value_info("logits", real, ["rows", 1, size.vocabulary])],
        [*(outside(name, shape) for name, shape in shapes.items()),
         *(helper.make_tensor(name, TensorProto.INT64, [1], value) for name, value in values.items())],
    )  # fmt: skip
