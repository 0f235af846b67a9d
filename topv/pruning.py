"""Pruning inside models of transformers, by forward hooks: `prune` and `attach`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from . import attention
from .cut import Cut, Kept, cut_mask, gather, make_cut, slots_mask
from .errors import ArgumentError, AttachmentError, ModelError
from .families import Picture, decoder_of, family_of, norm_of, pictures_of
from .report import ImageReport, Report, cache_bytes
from .select import budget, check_keep, check_recovery, split
from .selectors import choose, needs_of, selector
from .tokens import Selection, Selector, VisualTokens

__all__ = ["Pruning", "attach", "prune"]

_VISUAL = ("pixel_values", "pixel_values_videos", "mm_encoder_outputs", "image_hidden_states")
_attached: WeakKeyDictionary[nn.Module, Pruning] = WeakKeyDictionary()


@contextmanager
def prune(
    model: nn.Module,
    keep: float = 0.33,
    layer: int = 2,
    selector: str | Selector = "topv",
    recovery: float | None = None,
) -> Iterator[Pruning]:
    """Prune the visual tokens of a model within a ``with`` block; behind it the model is itself again.

    Parameters
    ----------
    model, keep, layer, selector, recovery
        See `attach`.

    Examples
    --------
    >>> with prune(model, keep=0.33) as pruning:        # doctest: +SKIP
    ...     tokens = model.generate(**inputs)
    >>> print(pruning.report())                         # doctest: +SKIP
    """
    pruning = attach(model, keep, layer, selector, recovery)
    try:
        yield pruning
    finally:
        if pruning.attached:
            pruning.detach()


def attach(
    model: nn.Module,
    keep: float = 0.33,
    layer: int = 2,
    selector: str | Selector = "topv",
    recovery: float | None = None,
) -> Pruning:
    """Prune the visual tokens of a model of transformers until `Pruning.detach`.

    Tokens are scored in one decoder layer of the prefill, and those not chosen are cut from the input of the next one:
    later layers compute and cache the rest only. What they compute is what the whole model would if it were told not to
    look at the others: every token keeps its position.

    Parameters
    ----------
    model : Module
        Of a family in `topv.FAMILIES`, with or without its head.
    keep : float in (0, 1] or int >= 2
        A share of every image's tokens, or a number of them.
    layer : int
        0-based: scored in this layer, cut at the input of ``layer + 1``. Layers up to this one keep all tokens.
    selector : str or callable
        See `topv.names`.
    recovery : int >= 2, float in [0, 1] or None
        Bring back every recovery-th discarded token, or spend this share of the budget on such; see `topv.select`.

    Returns
    -------
    Pruning

    Raises
    ------
    ArgumentError
        An option outside its values.
    ModelError
        The family is unknown, or pruning at this layer would not be exact.
    AttachmentError
        The model is being pruned already.

    Notes
    -----
    ``generate`` works as ever: batches, padding, beams, sampling, several turns on one cache, static caches (which save
    time, not memory), no cache. While attached, a forward raises `ModelError` before it runs if it has ``labels``, if a
    sliding window behind the cut is shorter than the sequence, and if embeddings come instead of ids with an image.
    A cache that was filled under a pruning must be continued under one.
    """
    return Pruning(model, keep, layer, selector, recovery)


@dataclass
class _Call:
    """What is known of one forward of the model."""

    length: int = 0
    padding: Tensor | None = None  # (rows, positions) of all tokens seen, None: none are padding
    pictures: list[Picture] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    cache: Any = None
    source: Tensor | None = None
    target: Tensor | None = None
    features: Tensor | None = None
    attention: Tensor | None = None
    cut: Cut | None = None
    kept: Kept | None = None  # with this call's slots
    new: dict[Any, Any] = field(default_factory=dict)  # by id of what a layer would have been given, or mask sizes
    old: list[Any] = field(default_factory=list)  # keeps those ids from being reused
    images: list[ImageReport] = field(default_factory=list)
    seconds: float = 0.0


class Pruning:
    """A model's pruning, made by `attach` or `prune`."""

    def __init__(
        self, model: nn.Module, keep: float, layer: int, chosen: str | Selector, recovery: float | None
    ) -> None:
        self._selector, self._keep, self._recovery = selector(chosen), keep, recovery
        self._needs = needs_of(self._selector)
        check_keep(keep)  # images are not known yet
        check_recovery(recovery)
        self._family = family_of(model)
        self._base, self._decoder = decoder_of(model, self._family)
        self._config: Any = self._base.config
        layers: Any = self._decoder.layers
        last = len(layers) - 2
        if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer <= last:
            raise ArgumentError(
                f"layer is {layer!r}; of {len(layers)} layers it must be one of 0 .. {last}, the cut being behind it."
            )
        deep = self._family.deepstack(self._config)
        if layer < deep - 1:
            raise ModelError(
                f"layer is {layer}, but this model adds visual features behind its first {deep} layers, to all visual "
                f"tokens; they may be cut behind the last of these only: layer must be {deep - 1} or more."
            )
        if model in _attached or self._base in _attached:
            raise AttachmentError("attach: this model is being pruned already; detach the other pruning first.")
        self._layer = layer
        self._states: WeakKeyDictionary[Any, Kept] = WeakKeyDictionary()
        self._call: _Call | None = None
        self._last: tuple[list[ImageReport], int, int, int, int, float] | None = None
        self._kept_positions: list[Tensor] = []
        self._handles: list[Any] = []
        self._model = model
        self._hook(layers)
        _attached[model] = _attached[self._base] = self

    # ------------------------------------------------------------------------------------------- for the user

    @property
    def attached(self) -> bool:
        """Whether the model is being pruned by this."""
        return bool(self._handles)

    def detach(self) -> None:
        """Take all hooks off the model, which is then bit for bit itself.

        Raises
        ------
        AttachmentError
            It was detached before.
        """
        if not self._handles:
            raise AttachmentError("detach: this pruning was detached already; attach makes a new one.")
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._finish()
        _attached.pop(self._model, None)
        _attached.pop(self._base, None)

    def report(self) -> Report:
        """Return what the last prefill with images cost and saved.

        Raises
        ------
        AttachmentError
            There was none.
        """
        if self._last is None:
            raise AttachmentError("report: no prompt with an image has gone through the model yet.")
        return Report(*self._last)

    @property
    def kept_positions(self) -> list[Tensor]:
        """The positions of the last prefill's prompts that were kept, text and visual, sorted; one tensor a row."""
        return self._kept_positions

    def __repr__(self) -> str:
        state = "attached" if self.attached else "detached"
        return f"<Pruning {self._selector}, keep={self._keep}, layer={self._layer}, recovery={self._recovery}, {state}>"

    # ------------------------------------------------------------------------------------------------- hooks

    def _hook(self, layers: Any) -> None:
        """Register all hooks; the scored layer's are told apart by what the selector reads."""
        scored, add = layers[self._layer], self._handles.append
        norm = norm_of(scored) if "target" in self._needs else None
        if self._model is not self._base:
            add(self._model.register_forward_pre_hook(self._check, with_kwargs=True))
        add(self._base.register_forward_pre_hook(self._begin, with_kwargs=True))
        add(self._base.register_forward_hook(self._end, always_call=True))
        if "features" in self._needs:
            add(layers[0].register_forward_pre_hook(self._take("features"), with_kwargs=True))
        if "source" in self._needs:
            add(scored.register_forward_pre_hook(self._take("source"), with_kwargs=True))
        if norm is not None:
            add(norm.register_forward_hook(self._take_output))
        if "attention" in self._needs:
            add(scored.self_attn.register_forward_pre_hook(self._listen))
            add(scored.self_attn.register_forward_hook(self._unlisten, always_call=True))
        for number in range(self._layer + 1, len(layers)):
            add(layers[number].register_forward_pre_hook(self._narrow(number), with_kwargs=True))

    def _check(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Refuse what would be computed from logits that are fewer than the prompt's tokens."""
        if kwargs.get("labels") is not None:
            raise ModelError(
                "labels cannot be used while pruning: logits come for the tokens kept only, so that labels would be "
                "compared with other positions; detach, or take the loss from logits and pruning.kept_positions."
            )
        if isinstance(kwargs.get("logits_to_keep"), Tensor):
            raise ModelError("logits_to_keep as a tensor counts positions that pruning removes; give a number.")

    def _begin(self, base: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Find the images of this call and check all that can be before anything is computed."""
        if torch.compiler.is_compiling():
            raise ModelError("pruning's hooks cannot be compiled; give generate disable_compile=True.")
        self._finish()
        ids = args[0] if args else kwargs.get("input_ids")
        embeds, cache = kwargs.get("inputs_embeds"), kwargs.get("past_key_values")
        shape = ids.shape if ids is not None else embeds.shape if embeds is not None else None
        if shape is None:
            return  # the model will say so
        call = _Call(length=shape[1], cache=cache)
        past = int(cache.get_seq_length()) if cache is not None else 0
        if any(_given(kwargs.get(name)) for name in _VISUAL):
            if ids is None:
                raise ModelError("an image came with inputs_embeds; pruning finds its tokens by input_ids, give those.")
            call.pictures = pictures_of(self._family, self._base, ids, kwargs)
            call.counts = [budget(self._keep, len(picture.positions)) for picture in call.pictures]
            for picture, count in zip(call.pictures, call.counts, strict=True):
                split(len(picture.positions), count, self._recovery)
            if call.pictures and past and self._family.blocks:
                raise ModelError(
                    f"this model's images attend both ways, and the cache holds {past} positions already; pruning "
                    "takes an image in the first turn only: start a new cache with the whole conversation."
                )
        call.padding = self._padding(kwargs.get("attention_mask"), past + call.length)
        if call.pictures or (cache is not None and cache in self._states):
            self._check_windows(past + call.length)
        self._call = call

    def _padding(self, mask: Any, total: int) -> Tensor | None:
        """Return which positions are tokens, from a mask in any of the forms that a model takes; None: all."""
        if isinstance(mask, dict):  # by kind of layer: one that counts positions, as layers before the cut do
            kinds = self._decoder.config.layer_types[: self._layer + 1]  # type: ignore[union-attr, index]
            mask = mask.get("full_attention" if "full_attention" in kinds else kinds[0])
        if mask is None:
            return None
        if not isinstance(mask, Tensor) or mask.shape[-1] < total:
            raise ModelError(
                f"attention_mask is {type(mask).__name__} of shape {tuple(getattr(mask, 'shape', ()))}; pruning reads "
                f"a tensor with a column for each of the {total} positions."
            )
        if mask.ndim == 4:  # made by generate for a static cache: what the last token sees
            line = mask[:, 0, -1, :total]
            mask = line if line.dtype == torch.bool else line == 0
        seen = mask[:, :total].bool()
        return None if bool(seen.all()) else seen

    def _check_windows(self, total: int) -> None:
        """Windows count slots behind the cut, positions before it: refuse where that makes a difference."""
        config: Any = self._decoder.config
        kinds = getattr(config, "layer_types", None) or []
        window = getattr(config, "sliding_window", None)
        if window and "sliding_attention" in kinds[self._layer + 1 :] and total > window:
            raise ModelError(
                f"the sequence has {total} positions and layers behind the cut a window of {window}; a window over "
                "pruned tokens would reach too far. Shorten the prompt, or generate fewer tokens."
            )

    def _end(self, base: nn.Module, args: Any, output: Any) -> None:
        """Remember what the cache holds now; after an exception, `output` being None, forget the call."""
        call = self._call
        if call is not None and output is not None and call.kept is not None:
            if call.cache is not None:
                self._states[call.cache] = call.kept
            if call.cut is not None:
                total = call.kept.total
                memory = cache_bytes(call.cache, total) if call.cache is not None else (0, 0)
                self._last = (call.images, total, call.kept.positions.shape[1], *memory, call.seconds)
                self._kept_positions = [
                    positions if call.cut.valid is None else positions[call.cut.valid[row]]
                    for row, positions in enumerate(call.cut.index + total - call.length)
                ]
        self._finish()

    def _finish(self) -> None:
        if "attention" in self._needs:
            layers: Any = self._decoder.layers
            attention.stop(layers[self._layer].self_attn)
        self._call = None

    def _wanted(self) -> _Call | None:
        """Return the call if tokens are to be chosen in it."""
        call = self._call
        short = call is not None and any(
            count < len(picture.positions) for picture, count in zip(call.pictures, call.counts, strict=True)
        )
        return call if short else None

    def _take(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            call = self._wanted()
            if call is not None:
                setattr(call, name, args[0] if args else kwargs["hidden_states"])

        return hook

    def _take_output(self, module: nn.Module, args: Any, output: Tensor) -> None:
        call = self._wanted()
        if call is not None:
            call.target = output

    def _listen(self, module: nn.Module, args: Any) -> None:
        call = self._wanted()
        if call is None:
            return
        last = None
        if call.padding is not None:
            seen = call.padding[:, -call.length :].long()
            last = (seen * torch.arange(1, call.length + 1, device=seen.device)).argmax(1)

        def heard(row: Tensor) -> None:
            call.attention = row

        attention.listen(module, last, heard)

    def _unlisten(self, module: nn.Module, args: Any, output: Any) -> None:
        attention.stop(module)

    def _narrow(self, number: int) -> Any:
        """Make the hook of a layer behind the cut: give it fewer tokens, and masks and positions that fit them."""

        def hook(layer: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            call = self._call
            if call is None:
                return None
            hidden = args[0] if args else kwargs["hidden_states"]
            if number == self._layer + 1:
                hidden = self._cut(call, hidden, kwargs.get("past_key_values"))
            if call.kept is None:
                return None
            kwargs = {**kwargs, **self._told(call, number, hidden, kwargs)}
            if args:
                return (hidden, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": hidden}

        return hook

    # ----------------------------------------------------------------------------------------------- the cut

    def _cut(self, call: _Call, hidden: Tensor, cache: Any) -> Tensor:
        """Choose, remember, and return the states of what stays."""
        started = time.perf_counter()
        call.cache = cache
        rows = len(hidden)
        past = self._past(call, cache, rows, hidden.device)
        if not call.pictures:
            if past is not None:
                positions = past.total + torch.arange(call.length, device=hidden.device).expand(rows, -1)
                call.kept = past.grown(positions, None, call.length)
            return hidden
        keep = torch.ones(rows, call.length, dtype=torch.bool, device=hidden.device)
        merges: list[tuple[Picture, Selection]] = []
        for picture, count in zip(call.pictures, call.counts, strict=True):
            begun = time.perf_counter()
            with torch.no_grad():
                selection = choose(self._tokens(call, picture, hidden), count, self._selector, self._recovery)
            seconds = time.perf_counter() - begun
            if count < len(picture.positions):
                places = picture.positions.to(hidden.device)
                keep[picture.row, places] = False
                keep[picture.row, places[selection.kept.to(hidden.device)]] = True
            if selection.merge is not None:
                merges.append((picture, selection))
            call.images.append(
                ImageReport(picture.row, picture.index, picture.grids, selection.kept, selection.importance, seconds)
            )
        if self._wanted() is not None and call.padding is not None:
            keep &= call.padding[:, -call.length :].to(hidden.device)  # padding goes too, where anything does
        call.cut = make_cut(keep)
        positions = call.cut.index + (0 if past is None else past.total)
        start = Kept(positions[:, :0], None, 0) if past is None else past
        call.kept = start.grown(positions, call.cut.valid, call.length)
        if merges:
            hidden = hidden.clone()
            for picture, selection in merges:
                _merge(hidden[picture.row], picture, selection)
        hidden = gather(hidden, call.cut.index)
        call.source = call.target = call.features = call.attention = None
        call.seconds = time.perf_counter() - started
        return hidden

    def _tokens(self, call: _Call, picture: Picture, hidden: Tensor) -> VisualTokens:
        """Collect one image's tokens."""

        def of(states: Tensor | None) -> Tensor | None:
            if states is None:
                return None
            places, n = picture.positions, len(picture.positions)
            first = int(places[0])
            if int(places[-1]) - first == n - 1:
                return states[picture.row, first : first + n]  # in a row: no copy
            return states[picture.row, places.to(states.device)]

        heard = call.attention
        if heard is not None:
            heard = heard[:, heard.shape[1] - call.length :] if heard.shape[1] >= call.length else None
        output = hidden if "output" in self._needs else None
        return VisualTokens(
            picture.grids, of(call.source), of(call.target), of(output), of(call.features),
            None if heard is None else heard[picture.row, picture.positions.to(heard.device)], picture.index,
        )  # fmt: skip

    def _past(self, call: _Call, cache: Any, rows: int, device: torch.device) -> Kept | None:
        """Return what the cut layers hold, None where they hold all; refuse a cache that was changed meanwhile."""
        if cache is None:
            return None
        total = int(cache.get_seq_length()) - call.length  # layer 0 has seen this call already
        kept = self._states.get(cache)
        slots = int(cache.get_seq_length(self._layer + 1))
        if kept is None or not total:  # new, or reset
            if slots != total:
                raise ModelError(
                    f"layer 0 of this cache holds {total} positions and layer {self._layer + 1} {slots}: it was filled "
                    "under another pruning, which must be the one that goes on."
                )
            if not total or not call.pictures:
                return None
            return Kept(torch.arange(total, device=device).expand(rows, -1), None, total)
        if kept.total != total or kept.positions.shape[1] != slots:
            raise ModelError(
                f"this cache held {kept.total} positions and {kept.positions.shape[1]} behind the cut, now {total} and "
                f"{slots}: it was cropped or changed, and which tokens are left is not known."
            )
        return kept.for_rows(rows)

    def _told(self, call: _Call, number: int, hidden: Tensor, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a layer that must be others, made once for all layers that are given the same."""
        told: dict[str, Any] = {}
        cut, kept, cache = call.cut, call.kept, call.cache
        assert kept is not None
        mask = kwargs.get("attention_mask")
        first = kept.total == call.length
        if cut is not None and first:
            slots = cut.index.shape[1]
            keys = slots if cache is None else int(cache.get_mask_sizes(slots, number)[0])
            told["attention_mask"] = self._once(call, mask, lambda: cut_mask(mask, cut, keys), keys)
        else:
            sizes = cache.get_mask_sizes(hidden.shape[1], number)  # layers of one size share a mask
            if sizes not in call.new:
                call.new[sizes] = slots_mask(self._decoder.config, hidden, cache, number, kept, call.padding)
            told["attention_mask"] = call.new[sizes]
        if cut is not None:
            embeddings = kwargs.get("position_embeddings")
            if embeddings is not None:
                told["position_embeddings"] = self._once(
                    call, embeddings, lambda: tuple(gather(part, cut.index) for part in embeddings)
                )
            if kwargs.get("position_ids") is not None:  # rotations are made; gaps would look like packed sequences
                places = torch.arange(cut.index.shape[1], device=hidden.device)
                told["position_ids"] = places.expand(len(cut.index), -1)
        return told

    @staticmethod
    def _once(call: _Call, old: Any, make: Any, keys: int = 0) -> Any:
        key = id(old), keys
        if key not in call.new:
            call.old.append(old)
            call.new[key] = make()
        return call.new[key]


def _given(value: Any) -> bool:
    """Tell whether an argument holds an image; `generate` passes an empty dictionary with text."""
    return any(part is not None for part in value.values()) if isinstance(value, dict) else value is not None


def _merge(states: Tensor, picture: Picture, selection: Selection) -> None:
    """Replace kept tokens by the means of those merged into them, in place."""
    assert selection.merge is not None
    places = picture.positions.to(states.device)
    into = selection.merge.to(states.device)
    sums = torch.zeros(len(selection.kept), states.shape[1], device=states.device, dtype=states.dtype)
    sums.index_add_(0, into, states[places])
    sizes = torch.bincount(into, minlength=len(selection.kept)).to(states.dtype)
    states[places[selection.kept.to(states.device)]] = sums / sizes[:, None]
