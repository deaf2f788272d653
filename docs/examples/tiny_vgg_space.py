"""A space of small VGG-like networks, written like ``2-1-3-16``: three depths and a width."""

import re
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.utils import skip_init  # makes a layer without drawing its weights

import scholarch
from scholarch.searchspace import Architecture, Gene, elastic
from scholarch.searchspace.convnets.staged import Part, StagedSpace, check_width_mult
from scholarch.searchspace.space import Matrix

DEPTHS, WIDTHS, STRIDES = (1, 2, 3, 4), (8, 12, 16, 20, 24, 28, 32, 40), (1, 2, 2)


class ElasticVgg(elastic.ElasticNetwork):
    """All networks of the space in one set of weights, each layer at its widest."""

    traits = frozenset({"bn", "relu"})

    def __init__(self, space: "TinyVgg", seed: int, init: str) -> None:
        super().__init__()
        self.space, self.convs, self.norms = space, nn.ModuleDict(), nn.ModuleDict()
        c_in = space.in_channels
        for stage, block in np.ndindex(3, max(DEPTHS)):
            c, stride = max(space.genes[3].values) * 2**stage, 1 if block else STRIDES[stage]
            self.convs[f"{stage}-{block}"] = elastic.ElasticConv2d(c_in, c, 3, stride)
            self.norms[f"{stage}-{block}"] = elastic.ElasticBatchNorm2d(c)
            c_in = c
        self.classifier = elastic.ElasticLinear(c_in, space.num_classes)
        elastic.initialise(self, seed=seed, init=init)

    def steps(self, arch: Architecture) -> tuple[elastic.Step, ...]:
        *depths, width = self.space.values(self.space.encode([arch]))[0].tolist()
        args = [(s, b, width * 2**s) for s, depth in enumerate(depths) for b in range(depth)]
        return tuple(elastic.Step("block", arg) for arg in args)

    def run_step(self, step: elastic.Step, x: Tensor, trace: elastic.Trace) -> Tensor:
        stage, block, width = step.args
        x = self.convs[f"{stage}-{block}"](x, width, trace)
        return trace.relu(self.norms[f"{stage}-{block}"](x))

    def extract(self, arch: Architecture) -> nn.Sequential:
        layers, c_in = list[nn.Module](), self.space.in_channels
        for stage, block, c in (step.args for step in self.steps(arch)):
            wide: Any = self.convs[f"{stage}-{block}"]
            wide_norm: Any = self.norms[f"{stage}-{block}"]
            conv = skip_init(nn.Conv2d, c_in, c, 3, wide.stride, 1, bias=False)
            conv.weight.data.copy_(wide.slice(c_in, c))
            wide_norm.copy_into(norm := nn.BatchNorm2d(c))
            layers, c_in = [*layers, conv, norm, nn.ReLU()], c
        linear = skip_init(nn.Linear, c_in, self.space.num_classes)
        linear.weight.data.copy_(self.classifier.slice(c_in))
        linear.bias.data.copy_(self.classifier.bias)
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear]
        return nn.Sequential(*layers).train(self.training)


@scholarch.register_space("tiny-vgg")
class TinyVgg(StagedSpace):
    """Three stages of 3×3 convolutions; genes: each stage's depth, and the first one's width."""

    def __init__(self, name: str, *, width_mult: float = 1.0, **options: Any) -> None:
        widths = dict.fromkeys(round(width * check_width_mult(width_mult)) for width in WIDTHS)
        genes = [*(Gene(f"depth{i}", DEPTHS) for i in (1, 2, 3)), Gene("width", tuple(widths))]
        super().__init__(name, genes, width_mult=width_mult, **options)

    def _parts(self, matrix: Matrix, resolution: int) -> list[Part]:
        *depths, width = self.values(matrix).astype(np.float64).T
        parts, side, c_in = list[Part](), resolution, np.full_like(width, self.in_channels)
        for stage, depth in enumerate(depths):
            c, before, side = width * 2**stage, side, -(-side // STRIDES[stage])
            parts.append(Part(f"stage {stage + 1}", side, blocks=depth, width=c))
            parts[-1].tally.conv(c_in, c, 3, side, side_in=before)
            parts[-1].tally.conv(c, c, 3, side, times=depth - 1)
            c_in = c
        parts.append(Part("classifier", 1, blocks=1.0, width=self.num_classes))
        parts[-1].tally.linear(c_in, self.num_classes)
        return parts

    def _details(self, choices: tuple[int, ...]) -> list[str]:
        return [*(f"{DEPTHS[i]} of 3×3" for i in choices[:3]), "average pool, linear"]

    def _format(self, choices: tuple[int, ...]) -> str:
        return "-".join(str(gene.values[i]) for gene, i in zip(self.genes, choices, strict=True))

    def _parse(self, text: str) -> list[int]:
        if not re.fullmatch(r"\d{1,3}(-\d{1,3}){3}", text, re.ASCII):
            raise scholarch.InvalidInputError(f"{text!r} is no tiny-vgg; write it like 2-1-3-16")
        return [g.index(int(word)) for g, word in zip(self.genes, text.split("-"), strict=True)]

    def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticVgg:
        return ElasticVgg(self, seed, init)

    def build(self, arch: Architecture, *, seed: int = 0) -> nn.Sequential:
        elastic.initialise(network := self.supernet().extract(arch), seed=seed)
        return network
