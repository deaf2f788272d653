"""The encoders of the FlexiBERT table, built twice: as their configuration says, and as trained.

Post-norm as BERT: x ← LN(x + operation(x)), x ← LN(x + FFN(x)); the FFN of n matrices up is
hidden → f, (n − 1) × f → f, f → hidden with GELU after all but the last. Every operation ends
in a hidden × hidden projection.

``config`` follows ``nas_config``: SDP attention; WMA, whose query passes one more matrix; DFT
and DCT, a projection and the orthonormal 2-d transform (real part) over tokens and the head's
channels; DSC, ConvBERT's mixed attention (Jiang et al., NeurIPS 2020, §3.2): half of the heads
attend, the other half convolve with a kernel made from the span, width hidden / 2 each.

``trained`` is what the public pre-training code builds from the same configuration, with two
slips in it: it compares the operation's name by identity, which text read from JSON never
meets, so every layer is SDP attention; and the first FFN matrix goes to a fixed width,
``feed_forward_dimension`` being that of the (n − 1) that follow. The table's column
``time_to_train`` agrees: regressed on the choice half (the slowest 5 % out) on counts of each
operation, heads, FFN matrices and width, a layer of SDP, WMA, DFT, DCT and DSC takes 199, 188,
184, 183 and 200 s, standard errors 24 to 31.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

BUILDS = ("config", "trained")
VOCABULARY = 30522
#: hidden → this, the first FFN matrix of build ``trained``: ELECTRA-small's, not in the table.
FIRST_WIDTH = 1024
#: Tokens a sequence, for MACs.
COST_TOKENS = 128
#: Rows and columns of the matrix every weight is a slice of.
WIDEST = 1024


@dataclass(frozen=True)
class Layer:
    """One encoder layer.

    Attributes:
        operation: ``"SDP"``, ``"WMA"``, ``"DFT"``, ``"DCT"`` or ``"DSC"``.
        kernel: of DSC, else 0.
        heads: of the operation.
        widths: of the FFN's hidden layers.
    """

    operation: str
    kernel: int
    heads: int
    widths: tuple[int, ...]


def parse_layers(config: Mapping[str, Sequence[Mapping[str, object]]], build: str) -> list[Layer]:
    """Layers of a row's ``nas_config``, first to last."""
    layers = []
    for entry in config["encoder_layers"]:
        width, stacked = int(entry["feed_forward_dimension"]), int(entry["num_feed_forward"])
        heads = int(entry["num_operation_heads"])
        if build == "trained":
            layers.append(Layer("SDP", 0, heads, (FIRST_WIDTH,) + (width,) * (stacked - 1)))
            continue
        is_dsc = entry["operation_type"] == "DSC"
        operation = "DSC" if is_dsc else str(entry["operation_parameter"])
        kernel = int(entry["operation_parameter"]) if is_dsc else 0
        layers.append(Layer(operation, kernel, heads, (width,) * stacked))
    return layers


@functools.lru_cache(maxsize=256)
def _master(name: str, seed: int) -> Tensor:
    """N(0, 1), ``[WIDEST, WIDEST]``: slices of it give all encoders common random numbers."""
    digits = np.frombuffer(name.encode(), dtype=np.uint8).tolist()
    rng = np.random.default_rng([seed, *digits])
    return torch.from_numpy(rng.standard_normal((WIDEST, WIDEST), dtype=np.float32))


@dataclass
class Weight:
    """One matrix ``[out, in]``, in the order of computation.

    Attributes:
        value: a leaf that requires gradients.
        layer: which encoder layer.
        role: ``"attention"`` or ``"ffn"``.
    """

    value: Tensor
    layer: int
    role: str


@dataclass
class Trace:
    """What one forward pass leaves.

    Attributes:
        inputs: the embeddings, ``[B, S, C]``.
        operations: outputs of the operations' residual sub-layers, one a layer, ``[B, S, C]``.
        outputs: outputs of the encoder layers, ``[B, S, C]``.
        hidden: outputs of the FFNs' GELUs, ``[B, S, f]``.
        before: the GELUs' inputs, likewise.
        linear: outputs of all matrices, for Fisher.
        probabilities: attention maps, ``[B, heads, S, S]``.
    """

    inputs: Tensor
    operations: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)
    before: list[Tensor] = field(default_factory=list)
    linear: list[Tensor] = field(default_factory=list)
    probabilities: list[Tensor] = field(default_factory=list)


class Encoder:
    """The encoder of one row; weights N(0, 1/fan-in), N(0, 2/fan-in) behind a GELU, no biases.

    Args:
        hidden: channels.
        layers: first to last.
        seed: of the weights.
        magnitudes: all weights replaced by their absolute values, as SynFlow asks.
        norms: whether there are layer norms; without, attention maps count as constants.
        dtype: of the weights.
    """

    def __init__(
        self,
        hidden: int,
        layers: Sequence[Layer],
        seed: int,
        magnitudes: bool = False,
        norms: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.hidden, self.layers, self.seed, self.dtype = hidden, tuple(layers), seed, dtype
        self.magnitudes, self.norms = magnitudes, norms
        self.weights: list[Weight] = []
        self._by_name: dict[str, Tensor] = {}
        for i, layer in enumerate(layers):
            self._declare(i, layer)

    def _add(self, i: int, name: str, out: int, into: int, gain: float = 1.0) -> None:
        value = _master(f"{i}.{name}", self.seed)[:out, :into].to(self.dtype)
        value = value * math.sqrt(gain / into)
        value = (value.abs() if self.magnitudes else value).requires_grad_()
        self._by_name[f"{i}.{name}"] = value
        self.weights.append(Weight(value, i, "ffn" if name.startswith("f") else "attention"))

    def _declare(self, i: int, layer: Layer) -> None:
        c = self.hidden
        part = c // 2 if layer.operation == "DSC" else c
        if layer.operation in {"DFT", "DCT"}:
            self._add(i, "v", c, c)
        else:
            for name in "qkv":
                self._add(i, name, part, c)
        if layer.operation == "WMA":
            self._add(i, "w", c, c)
        if layer.operation == "DSC":
            self._add(i, "depthwise", c, layer.kernel)
            self._add(i, "pointwise", part, c)
            self._add(i, "kernel", max(layer.heads // 2, 1) * layer.kernel, part)
            self._add(i, "span", part, c)
        self._add(i, "out", c, c)
        into = c
        for j, width in enumerate(layer.widths):
            self._add(i, f"f{j}", width, into, gain=2.0 if j else 1.0)
            into = width
        self._add(i, "f-out", c, into, gain=2.0)

    def _linear(self, trace: Trace, name: str, x: Tensor) -> Tensor:
        y = functional.linear(x, self._by_name[name])
        trace.linear.append(y)
        return y

    def _norm(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:]) if self.norms else x

    def _constant(self, p: Tensor) -> Tensor:
        """Maps of equal tokens have no gradient; rounding, grown by |weights|, would have one."""
        return p if self.norms else p.detach()

    def _attend(self, trace: Trace, i: int, heads: int, query: Tensor, x: Tensor) -> Tensor:
        b, s, _ = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(b, s, heads, -1).transpose(1, 2)

        q, k = split(query), split(self._linear(trace, f"{i}.k", x))
        v = split(self._linear(trace, f"{i}.v", x))
        p = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
        p = self._constant(p)
        trace.probabilities.append(p)
        return (p @ v).transpose(1, 2).reshape(b, s, -1)

    def _convolve(self, trace: Trace, i: int, layer: Layer, query: Tensor, x: Tensor) -> Tensor:
        b, s, _ = x.shape
        heads, k = max(layer.heads // 2, 1), layer.kernel
        depthwise = self._by_name[f"{i}.depthwise"].unsqueeze(1)
        near = functional.conv1d(x.transpose(1, 2), depthwise, padding=k // 2, groups=x.shape[-1])
        near = self._linear(trace, f"{i}.pointwise", near.transpose(1, 2))
        kernels = self._linear(trace, f"{i}.kernel", near * query).view(b, s, heads, 1, k)
        span = self._linear(trace, f"{i}.span", x)
        windows = functional.pad(span, (0, 0, k // 2, k // 2)).unfold(1, k, 1)
        windows = windows.reshape(b, s, heads, -1, k)
        kernels = self._constant(torch.softmax(kernels, dim=-1))
        return (windows * kernels).sum(dim=-1).reshape(b, s, -1)

    def _operation(self, trace: Trace, i: int, layer: Layer, x: Tensor) -> Tensor:
        if layer.operation in {"DFT", "DCT"}:
            b, s, c = x.shape
            y = self._linear(trace, f"{i}.v", x).view(b, s, layer.heads, -1).transpose(1, 2)
            if layer.operation == "DFT":
                y = torch.fft.fft2(y, norm="ortho").real
            else:
                y = _cosines(s).to(y) @ y @ _cosines(y.shape[-1]).T.to(y)
            y = y.transpose(1, 2).reshape(b, s, c)
        else:
            query = self._linear(trace, f"{i}.q", x)
            if layer.operation == "WMA":
                query = self._linear(trace, f"{i}.w", query)
            if layer.operation == "DSC":
                attended = self._attend(trace, i, max(layer.heads // 2, 1), query, x)
                y = torch.cat([attended, self._convolve(trace, i, layer, query, x)], dim=-1)
            else:
                y = self._attend(trace, i, layer.heads, query, x)
        return self._linear(trace, f"{i}.out", y)

    def __call__(self, embeddings: Tensor) -> Trace:
        """Run the encoder on embeddings ``[B, S, C]``."""
        trace = Trace(embeddings)
        x = embeddings
        for i, layer in enumerate(self.layers):
            x = self._norm(x + self._operation(trace, i, layer, x))
            trace.operations.append(x)
            y = x
            for j in range(len(layer.widths)):
                y = self._linear(trace, f"{i}.f{j}", y)
                trace.before.append(y)
                y = functional.gelu(y)
                trace.hidden.append(y)
            x = self._norm(x + self._linear(trace, f"{i}.f-out", y))
            trace.outputs.append(x)
        return trace


@functools.lru_cache(maxsize=8)
def _cosines(n: int) -> Tensor:
    """The orthonormal DCT-II, ``[n, n]``."""
    k, t = np.arange(n)[:, None], np.arange(n)[None, :]
    table = np.cos(np.pi * (t + 0.5) * k / n) * math.sqrt(2.0 / n)
    table[0] /= math.sqrt(2.0)
    return torch.from_numpy(table.astype(np.float32))


def sizes(encoder: Encoder) -> dict[str, float]:
    """Sizes of an encoder without its embeddings; MACs of one sequence of 128 tokens."""
    c, s = encoder.hidden, COST_TOKENS
    total, by_layer, macs, path = 0, [0] * len(encoder.layers), 0.0, 0
    for weight in encoder.weights:
        by_layer[weight.layer] += weight.value.numel() + weight.value.shape[0]
    for i, layer in enumerate(encoder.layers):
        by_layer[i] += 4 * c  # two layer norms
        macs += s * sum(w.value.numel() for w in encoder.weights if w.layer == i)
        if layer.operation in {"DFT", "DCT"}:
            macs += s * c * (math.log2(s) + math.log2(c / layer.heads))
        elif layer.operation == "DSC":
            macs += s * s * c + s * c // 2 * layer.kernel
        else:
            macs += 2 * s * s * c
        path += {"WMA": 3, "DSC": 4}.get(layer.operation, 2) + len(layer.widths) + 1
        total += by_layer[i]
    ffn = sum(w.value.numel() for w in encoder.weights if w.role == "ffn")
    return {
        "params": total,
        "params-ffn": ffn,
        "params-attention": sum(w.value.numel() for w in encoder.weights) - ffn,
        "macs": macs,
        "depth": len(encoder.layers),
        "layers-weighted": path,
        "hidden": c,
        "heads": sum(layer.heads for layer in encoder.layers),
        "params-sumlog": sum(math.log(p) for p in by_layer),
    }
