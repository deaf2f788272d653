"""Training-free measurements of one FlexiBERT encoder; no trained weight, no accuracy.

A pass is 16 sequences of 64 tokens, random weights, and two losses on random targets: the
cross-entropy of 10 classes on the mean token (``-cls``), and of 1,000 words at every token
(``-mlm``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from flexibert_nets import VOCABULARY, Encoder, Layer, Trace, Weight
from torch import Tensor
from torch.nn import functional

from scholarch.proxies.expr import spectrum_entropy
from scholarch.proxies.jacov import correlation_score
from scholarch.proxies.naswot import hamming_kernel

INPUTS = ("tokens", "gauss")
SEQUENCES = 16
TOKENS = 64
CLASSES = 10
WORDS = 1000
#: Tokens taken for what is quadratic in them.
SOME = 256
WIDEST_HIDDEN = 256
EPS = 1e-6


def embed(hidden: int, seed: int, inputs: str, batch: int) -> Tensor:
    """Embeddings ``[B, S, hidden]``, layer-normed, as the first layer gets them.

    ``tokens``: ids by Zipf's law (p ∝ 1/(rank + 2.7)), embeddings and positions N(0, 1), one
    table for all batches of a seed. ``gauss``: N(0, 1) at every place.
    """
    x = torch.from_numpy(np.ascontiguousarray(_widest(seed, inputs, batch)[..., :hidden]))
    return functional.layer_norm(x, (hidden,))


@functools.lru_cache(maxsize=8)
def _widest(seed: int, inputs: str, batch: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng([seed, batch, INPUTS.index(inputs)])
    shape = (SEQUENCES, TOKENS, WIDEST_HIDDEN)
    if inputs == "gauss":
        return rng.standard_normal(shape, dtype=np.float32)
    p = 1.0 / (np.arange(VOCABULARY) + 2.7)
    ids = rng.choice(VOCABULARY, size=shape[:2], p=p / p.sum())
    table = np.random.default_rng([seed, 99])
    words = table.standard_normal((VOCABULARY, WIDEST_HIDDEN), dtype=np.float32)
    return words[ids] + table.standard_normal(shape[1:], dtype=np.float32)


def _entropy(x: Tensor) -> float:
    """Of the covariance's spectrum over tokens, x ``[B, S, C]``."""
    return spectrum_entropy(x.detach().permute(0, 2, 1).unsqueeze(-1))


def _small_entropy(x: Tensor) -> float:
    """The same over ``SOME`` tokens, by their Gram matrix, which has the same spectrum."""
    rows = x.detach().reshape(-1, x.shape[-1])[:: x.shape[0] * x.shape[1] // SOME]
    rows = rows - rows.mean(dim=0)
    p = torch.linalg.eigvalsh((rows @ rows.T).double()).clamp_min(0.0)
    return float(torch.special.entr(p / p.sum()).sum())


def expressivity(trace: Trace) -> dict[str, float]:
    """Entropies of the layers' outputs, in several sums."""
    start = _entropy(trace.inputs)
    operations = [_entropy(x) for x in trace.operations]
    outputs = [_entropy(x) for x in trace.outputs]
    hidden = [_small_entropy(x) for x in trace.hidden]
    steps = np.diff([start, *outputs])
    both = [e for pair in zip(operations, outputs, strict=True) for e in pair]
    return {
        "expr": sum(outputs),
        "expr-mean": float(np.mean(outputs)),
        "expr-final": outputs[-1],
        "expr-sub": sum(both),
        "expr-hidden": sum(hidden),
        "expr-all": sum(both) + sum(hidden),
        "expr-erank": sum(math.log1p(math.exp(e)) for e in both),
        "az-progressivity": float(steps[1:].min()),
        "progressivity-start": float(steps.min()),
        "progressivity-sub": float(np.diff([start, *both]).min()),
        "expr-fall": outputs[-1] - start,
    }


def trainability(trace: Trace, seed: int) -> dict[str, float]:
    """AZ-NAS's trainability of every sub-layer, mean and sum."""
    generator = torch.Generator().manual_seed(seed)

    def score(x: Tensor, y: Tensor) -> float:
        g_out = torch.randint(0, 2, y.shape, generator=generator).to(y.dtype) * 2 - 1
        (g_in,) = torch.autograd.grad(y, x, g_out, retain_graph=True)
        tokens = x.shape[0] * x.shape[1]
        s = g_in.reshape(tokens, -1).T @ g_out.reshape(tokens, -1) / tokens
        sigma = float(torch.linalg.matrix_norm(s, ord=2))
        return 2.0 - sigma - 1.0 / (sigma + EPS)

    starts = [trace.inputs, *trace.outputs[:-1]]
    subs = [score(x, y) for x, y in zip(starts, trace.operations, strict=True)]
    subs += [score(x, y) for x, y in zip(trace.operations, trace.outputs, strict=True)]
    return {
        "az-trainability": float(np.mean(subs)),
        "az-trainability-sum": float(np.sum(subs)),
    }


def _losses(trace: Trace, seed: int, batch: int) -> dict[str, Tensor]:
    rng = np.random.default_rng([seed, batch, 7])
    out = trace.outputs[-1]
    scale = math.sqrt(out.shape[-1])
    heads = np.random.default_rng([seed, 98])
    classes = torch.from_numpy(heads.standard_normal((CLASSES, WIDEST_HIDDEN), dtype=np.float32))
    words = torch.from_numpy(heads.standard_normal((WORDS, WIDEST_HIDDEN), dtype=np.float32))
    labels = torch.from_numpy(rng.integers(0, CLASSES, SEQUENCES))
    targets = torch.from_numpy(rng.integers(0, WORDS, SEQUENCES * TOKENS))
    logits = out.mean(dim=1) @ classes[:, : out.shape[-1]].T / scale
    at_tokens = out.flatten(0, 1) @ words[:, : out.shape[-1]].T / scale
    return {
        "cls": functional.cross_entropy(logits, labels),
        "mlm": functional.cross_entropy(at_tokens, targets),
    }


def _from_gradients(
    weights: Sequence[Weight], grads: Sequence[Tensor], trace: Trace, flows: Sequence[Tensor]
) -> dict[str, float]:
    values = [w.value.detach() for w in weights]
    snips = [float((v * g).abs().sum()) for v, g in zip(values, grads, strict=True)]
    norms = [float(g.norm()) for g in grads]
    fisher = 0.0
    for a, g in zip(trace.linear, flows, strict=False):
        fisher += float((a.detach() * g).sum(dim=1).square().mean(dim=0).sum()) / 2.0
    layers: dict[int, float] = {}
    for w, n in zip(weights, norms, strict=True):
        layers[w.layer] = layers.get(w.layer, 0.0) + n * n
    maps = list(zip(trace.probabilities, flows[len(trace.linear) :], strict=True))
    return {
        "snip": sum(snips),
        "snip-sumlog": sum(math.log(s) for s in snips),
        "grad-norm": sum(norms),
        "grad-norm-sumlog": sum(math.log(n) for n in norms),
        "grad-norm-sumlog-layer": sum(0.5 * math.log(n) for n in layers.values()),
        "fisher": fisher,
        "head-importance": sum(
            float((a.detach() * g).sum(dim=(0, 2, 3)).abs().sum()) for a, g in maps
        ),
    }


def _zico(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    total = 0.0
    for a, b in zip(first, second, strict=True):
        mean, std = (a.abs() + b.abs()) / 2.0, (a - b).abs() / 2.0
        keep = std > 0
        total += math.log(float((mean[keep] / std[keep]).sum()))
    return total


def linearised(hidden: int, layers: Sequence[Layer], seed: int) -> dict[str, float]:
    """SynFlow and DSS: all-ones input, |weights|, no layer norms, the sum of the outputs.

    Queries and keys of equal tokens have no gradient. With layer norms (all but the last, and
    positions added) both measure little but how far the attention saturates.
    """
    ones = torch.ones(1, TOKENS, hidden, dtype=torch.float64)
    encoder = Encoder(hidden, layers, seed, magnitudes=True, norms=False, dtype=ones.dtype)
    total = encoder(ones).outputs[-1].sum()
    values = [w.value for w in encoder.weights]
    grads = torch.autograd.grad(total, values, allow_unused=True)
    flow, dss = [], 0.0
    for w, grad in zip(encoder.weights, grads, strict=True):
        if grad is None:
            continue
        product = float((w.value.detach() * grad).abs().sum())
        flow.append(product)
        if w.role == "ffn":
            dss += product
        elif min(grad.shape) > 1:
            dss += _nuclear(grad) * _nuclear(w.value.detach())
    return {
        "synflow-log": math.log(sum(flow)),
        "synflow-sumlog": sum(math.log(f) for f in flow),
        "dss-log": math.log(dss),
    }


def _nuclear(x: Tensor) -> float:
    gram = x @ x.T if x.shape[0] < x.shape[1] else x.T @ x
    return float(torch.linalg.eigvalsh(gram).clamp_min(0.0).sqrt().sum())


def measure(hidden: int, layers: Sequence[Layer], seed: int, inputs: str) -> dict[str, float]:
    """All measurements of a pass on random sequences, by name."""
    encoder = Encoder(hidden, layers, seed)
    trace = encoder(embed(hidden, seed, inputs, 0).requires_grad_())
    out = expressivity(trace) | trainability(trace, seed)
    values = [w.value for w in encoder.weights]
    leaves = [*values, *trace.linear, *trace.probabilities]
    first: dict[str, Sequence[Tensor]] = {}
    losses = _losses(trace, seed, 0)
    for name, loss in losses.items():
        grads = torch.autograd.grad(loss, leaves, retain_graph=True)
        first[name] = grads[: len(values)]
        found = _from_gradients(encoder.weights, first[name], trace, grads[len(values) :])
        out |= {f"{key}-{name}": value for key, value in found.items()}
    pooled = trace.outputs[-1].mean(dim=1)
    heads = np.random.default_rng([seed, 98]).standard_normal(
        (CLASSES, WIDEST_HIDDEN), dtype=np.float32
    )
    logits = pooled @ torch.from_numpy(heads)[:, :hidden].T
    (jacobian,) = torch.autograd.grad(logits.sum(), trace.inputs)
    out["jacov"] = correlation_score(jacobian.flatten(1))
    again = encoder(embed(hidden, seed, inputs, 1))
    loss = _losses(again, seed, 1)["mlm"]
    out["zico"] = _zico(first["mlm"], torch.autograd.grad(loss, values))
    codes = [x.detach() for x in trace.before]
    out["naswot"] = float(hamming_kernel(codes).slogdet().logabsdet)
    tokens = [x.flatten(0, 1)[:: SEQUENCES * TOKENS // SOME] for x in codes]
    out["naswot-token"] = float(hamming_kernel(tokens).slogdet().logabsdet)
    sharp = [float(p.detach().amax(dim=-1).mean()) for p in trace.probabilities]
    out["head-confidence"] = float(np.mean(sharp)) if sharp else 0.0
    out["head-confidence-sum"] = sum(
        s * p.shape[1] for s, p in zip(sharp, trace.probabilities, strict=True)
    )
    return out
