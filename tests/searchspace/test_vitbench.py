"""ViT-Bench's spaces against its data, published sizes and timm's networks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from scholarch.proxies.batch import Batch
from scholarch.proxies.scoring import Scorer
from scholarch.searchspace.elastic import EMBEDDING_STD, ElasticNetwork, Trace
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace
from scholarch.searchspace.transformers.block import positions_at
from scholarch.teachers.timm_import import import_timm

NAMES = ("vitbench-autoformer", "vitbench-pit")
DEIT_TI = json.dumps(
    {"hidden_dim": 192, "mlp_ratio": [4.0] * 12, "depth": 12, "num_heads": [3] * 12}
)
PIT_TI = '{"base_dim":32,"mlp_ratio":4,"depth":[2,6,4],"num_heads":[2,4,8]}'
TEXTS = dict(zip(NAMES, (DEIT_TI, PIT_TI), strict=True))

both = pytest.mark.parametrize("name", NAMES)


def images(n: int, side: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def shaken(network: nn.Module) -> nn.Module:
    """Every parameter moved, so that biases and norms tell."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.rand(parameter.shape, generator=generator))
    return network


# ---------------------------------------------------------------------- the data


@pytest.mark.parametrize(
    ("name", "least", "most", "tau_params", "tau_depth"),
    [
        ("vitbench-autoformer", 5.28e6, 9.75e6, 0.55, 0.67),
        ("vitbench-pit", 0.15e6, 29.5e6, 0.82, 0.12),
    ],
)
def test_every_row_of_the_data_is_read(
    data_dir: Path, name: str, least: float, most: float, tau_params: float, tau_depth: float
) -> None:
    """Sizes rank the distilled accuracies as they are known to."""
    rows = json.loads((data_dir / "vit_bench_cifar100.json").read_text())
    rows = [row for row in rows if f"vitbench-{row['space']}" == name]
    space = create_space(name, num_classes=100)
    archs = [space.parse(json.dumps(row["arch"])) for row in rows]
    assert [json.loads(str(arch)) for arch in archs] == [row["arch"] for row in rows]
    assert [list(json.loads(str(arch))) for arch in archs] == [list(row["arch"]) for row in rows]
    assert len({arch.key for arch in archs}) == len(rows) == 100
    costs = space.cost(archs)
    assert least < costs["params"].min() < costs["params"].max() < most
    accuracy = [row["cifar100_kd"] for row in rows]
    assert kendalltau(costs["params"], accuracy)[0] == pytest.approx(tau_params, abs=0.01)
    assert kendalltau(costs["depth"], accuracy)[0] == pytest.approx(tau_depth, abs=0.01)


def test_sizes() -> None:
    autoformer, pit = map(create_space, NAMES)
    assert autoformer.size == 3 * (4**12 + 4**13 + 4**14) == 1_056_964_608
    assert pit.size == 4 * 4 * 10 * 27 == 4320
    assert autoformer.resolution == pit.resolution == 224


# ---------------------------------------------------------------------- golden numbers


@pytest.mark.parametrize(
    ("name", "params", "macs", "depth"),
    [
        # DeiT-Ti (Touvron et al., ICML 2021): 5.7 M; 1.3 G (timm's table: 1.26).
        ("vitbench-autoformer", 5_717_416, 1_253_683_200, 50),
        # PiT-Ti (Heo et al., ICCV 2021, Table 3): 4.9 M, 0.7 G.
        ("vitbench-pit", 4_847_272, 699_059_456, 52),
    ],
)
def test_golden_costs(name: str, params: int, macs: int, depth: int) -> None:
    space = create_space(name, num_classes=1000)
    costs = space.cost([space.parse(TEXTS[name])])
    assert [costs[c][0] for c in ("params", "macs", "depth")] == [params, macs, depth]


@pytest.mark.parametrize("text", [DEIT_TI, DEIT_TI.replace('"num_heads": [3', '"num_heads": [4')])
def test_attention_is_counted(text: str) -> None:
    """Beside convolutions and linear layers, two products of N × N × width in each block."""
    space = create_space(NAMES[0], resolution=32, patch_size=8)
    arch = space.parse(text)
    macs = 0

    def count(module: nn.Module, given: tuple[Tensor], out: Tensor) -> None:
        nonlocal macs
        macs += out.numel() * module.weight[0].numel()
        if isinstance(module, nn.Conv2d):
            assert out.shape[2:] == (4, 4)

    network = space.build(arch).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network(images(1))
    assert space.cost([arch])["macs"][0] - macs == 12 * 2 * 17**2 * 192


def _renamed(state: dict[str, Tensor], pit: bool) -> Iterator[tuple[str, Tensor]]:
    """A state dict under timm's names and shapes."""
    for name, value in state.items():
        kind, _, rest = name.partition(".")
        if kind == "class_token":
            yield "cls_token", value[None]
        elif kind == "positions" and pit:
            side = math.isqrt(len(value))
            yield "pos_embed", value.T.reshape(1, -1, side, side)
        elif kind == "positions":
            yield "pos_embed", value[None]
        elif kind == "patches":
            yield f"patch_embed.{'conv' if pit else 'proj'}.{rest}", value
        elif kind == "pools":
            index, _, rest = rest.partition(".")
            yield f"transformers.{int(index) + 1}.pool.{rest}", value
        else:
            if kind == "stages":
                stage, _, rest = rest.partition(".")
                name = f"transformers.{stage}.blocks.{rest}"
            for ours, theirs in (("qkv", "attn.qkv"), ("proj", "attn.proj")):
                name = name.replace(f".{ours}.", f".{theirs}.")
            for layer in ("fc1", "fc2"):
                name = name.replace(f".{layer}.", f".mlp.{layer}.")
            yield name, value


@both
def test_outputs_are_those_of_timms_network(name: str) -> None:
    space = create_space(name, resolution=32, patch_size=8)
    plain = shaken(space.build(space.parse(TEXTS[name])).eval())
    pit = name == "vitbench-pit"
    models = import_timm().models
    with torch.random.fork_rng():
        sizes = {"img_size": 32, "patch_size": 8, "num_classes": 10}
        if pit:
            theirs = models.pit.PoolingVisionTransformer(**sizes, stride=4, base_dims=(32, 32, 32))
        else:
            pooled = {"global_pool": "avg", "fc_norm": False}
            theirs = models.VisionTransformer(
                **sizes, **pooled, embed_dim=192, depth=12, num_heads=3
            )
    theirs.load_state_dict(dict(_renamed(plain.state_dict(), pit)))
    with torch.no_grad():
        x = images(3)
        ours = plain(x)
        assert (theirs.eval()(x) - ours).abs().max() < 1e-4 * ours.abs().max()


# ---------------------------------------------------------------------- notation and rows


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        (NAMES[0], PIT_TI, "lacks hidden_dim"),
        (NAMES[0], DEIT_TI.replace("192", "200"), "hidden_dim = 200 is not one of 192, 216, 240"),
        (NAMES[0], DEIT_TI.replace("192", "true"), "hidden_dim = True is not one of"),
        (NAMES[0], DEIT_TI.replace(": 12", ": 13"), "mlp_ratio is 12 values; need a list of 13"),
        (NAMES[0], DEIT_TI.replace("[3, 3", "[3, 5"), "num_heads of layer 2 = 5 is not one of 3"),
        (NAMES[0], DEIT_TI.replace("[4.0", "[NaN"), "mlp_ratio of layer 1 = nan is not one of"),
        (NAMES[0], DEIT_TI.replace("[4.0", '["4.0"'), "layer 1 = '4.0' is not one of 3.5, 4"),
        (NAMES[0], DEIT_TI[:-1] + ', "x": 1}', "unknown entry 'x'"),
        (NAMES[0], DEIT_TI[:-1], "no ViT-Bench architecture"),
        (NAMES[0], "{" + " " * 10_000 + "}", "no ViT-Bench architecture"),
        (NAMES[0], "{1, 2}", "no ViT-Bench architecture"),
        (NAMES[1], DEIT_TI, "lacks base_dim"),
        (NAMES[1], PIT_TI.replace("2,4,8", "4,2,8"), "none below the one before"),
        (NAMES[1], PIT_TI.replace("2,4,8", "2,4"), "num_heads is 2 values; need a list of 3"),
        (NAMES[1], PIT_TI.replace("2,6,4", "2,5,4"), "depth of stage 2 = 5 is not one of 4, 6, 8"),
        (NAMES[1], PIT_TI.replace("[2,6,4]", "12"), "depth is 12; need a list of 3 numbers"),
    ],
)
def test_what_lies_outside_is_named(name: str, text: str, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        create_space(name).parse(text)


@both
def test_python_dicts_are_read(name: str) -> None:
    space = create_space(name)
    arch = space.parse(TEXTS[name])
    assert space.parse(str(json.loads(TEXTS[name]))) == arch
    assert str(arch) == TEXTS[name].replace(" ", "")


def test_absent_layers_have_no_say() -> None:
    space = create_space(NAMES[0])
    rows = space.sample_matrix(200, seed=0)
    inactive = np.arange(14) >= np.array([12, 13, 14])[rows[:, 1], None]
    assert (rows[:, 2:16][inactive] > 0).any()
    archs = space.decode(rows)
    assert not space.encode(archs)[:, 2:16][inactive].any()
    assert not space.encode(archs)[:, 16:][inactive].any()
    assert space.keys(rows) == [arch.key for arch in archs]
    costs, canonical = space.cost(rows), space.cost(archs)
    assert all(np.array_equal(costs[c], canonical[c]) for c in costs)
    children = space.mutate(rows, np.random.default_rng(0))
    assert all(a != b for a, b in zip(space.keys(rows), space.keys(children), strict=True))


def test_heads_change_the_network_but_not_its_costs() -> None:
    space = create_space(NAMES[0], resolution=32, patch_size=8)
    three, four = space.parse(DEIT_TI), space.parse(DEIT_TI.replace("[3, 3", "[3, 4"))
    costs = space.cost([three, four])
    assert all(column[0] == column[1] for column in costs.values())
    assert three.key != four.key
    one, other = (space.build(arch, seed=0).eval() for arch in (three, four))
    with torch.no_grad():
        assert not torch.allclose(one(images(1)), other(images(1)))


# ---------------------------------------------------------------------- options


@pytest.mark.parametrize("width_mult", [0.125, 0.25, 0.5, 1.0, 1.3])
@both
def test_widths_differ_and_heads_divide_them(name: str, width_mult: float) -> None:
    space = create_space(name, width_mult=width_mult)
    widths = space.genes[0].values
    assert list(widths) == sorted(set(widths))
    if name == "vitbench-autoformer":
        assert all(width % 12 == 0 for width in widths)
        # Feed-forward widths need no rounding.
        assert all(width * 35 % 10 == 0 for width in widths)


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        (NAMES[0], {"patch_size": 0}, "patch_size = 0 .* positive multiple of 1"),
        (NAMES[1], {"patch_size": 7}, "patch_size = 7 .* positive multiple of 2"),
        (NAMES[0], {"patch_size": 4.0}, "patch_size = 4.0"),
        (NAMES[0], {"resolution": 8}, "no patch of 16×16 pixels fits"),
        (NAMES[1], {"resolution": 15}, "no patch of 16×16 pixels fits"),
    ],
)
def test_impossible_patches_are_refused(
    name: str, options: dict[str, float], complaint: str
) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        create_space(name, **options)


@both
def test_params_are_the_same_at_any_resolution(name: str) -> None:
    space = create_space(name, resolution=32, patch_size=4)
    archs = space.sample(5, seed=0)
    own, other = space.cost(archs), space.cost(archs, resolution=48)
    assert np.array_equal(own["params"], other["params"])
    assert (own["macs"] < other["macs"]).all()
    with pytest.raises(InvalidInputError, match="resolution = 3"):
        space.cost(archs, resolution=3)
    again = create_space(**space.spec())
    assert np.array_equal(again.cost(archs)["macs"], own["macs"])


def test_positions_are_interpolated_row_by_row() -> None:
    rows = torch.arange(4.0).repeat_interleave(4)
    table = torch.stack([rows, torch.full((16,), 3.0)], dim=1)
    assert positions_at(table, 4, 4) is table
    larger = positions_at(table, 8, 6)
    assert larger.shape == (48, 2)
    assert torch.allclose(larger[:, 1], torch.tensor(3.0))
    grid = larger[:, 0].view(8, 6)
    assert torch.allclose(grid, grid[:, :1].expand(8, 6))
    assert (grid[1:, 0] > grid[:-1, 0]).all()


@both
def test_other_images_go_through(name: str) -> None:
    space = create_space(name, resolution=32, patch_size=8, num_classes=3, in_channels=1)
    network = space.build(space.parse(TEXTS[name])).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 1, 48, 48)).shape == (2, 3)
        # Edges that no patch covers are not seen; the standalone takes rectangles.
        x = torch.zeros(1, 1, 40, 32)
        assert torch.equal(network(x), network(nn.functional.pad(x, (0, 3), value=9.0)))


# ---------------------------------------------------------------------- networks


@pytest.mark.parametrize("side", [32, 45])
@both
def test_extraction_is_bit_exact_at_many_tokens(name: str, side: int) -> None:
    space = create_space(name, resolution=32, patch_size=4, width_mult=0.25)
    supernet = shaken(space.supernet(seed=2).eval())
    assert isinstance(supernet, ElasticNetwork)
    for memory in (torch.contiguous_format, torch.channels_last):
        x = images(5, side, seed=side).contiguous(memory_format=memory)
        for arch in space.sample(2, seed=side):
            plain = supernet.extract(arch)
            # Gradients or not, since torch multiplies by other kernels.
            assert torch.equal(supernet(x, arch), plain(x))
            with torch.no_grad():
                assert torch.equal(supernet(x, arch), plain(x))


def test_queries_keys_and_values_are_prefixes_of_their_own() -> None:
    """A slot of weight or bias serves one of the three, at any width."""
    space = create_space(NAMES[0], width_mult=0.25)
    supernet = shaken(space.supernet(seed=0))
    small, *_, large = space.genes[0].values
    texts = [DEIT_TI.replace("192", str(dim)) for dim in (small, large)]
    less, more = (supernet.extract(space.parse(text)).state_dict() for text in texts)
    for kind in ("weight", "bias"):
        ours, theirs = less[f"blocks.3.qkv.{kind}"], more[f"blocks.3.qkv.{kind}"]
        blocks = theirs.unflatten(0, (3, large))[:, :small]
        blocks = blocks[:, :, :small] if kind == "weight" else blocks
        assert torch.equal(ours.unflatten(0, (3, small)), blocks)
        other = f"blocks.3.fc1.{kind}"
        cut = tuple(slice(size) for size in less[other].shape)
        assert torch.equal(less[other], more[other][cut])
    assert torch.equal(less["positions.weight"], more["positions.weight"][:, :small])


def test_the_classifier_sees_what_the_released_code_shows_it() -> None:
    """AutoFormer's the mean over the patches, without the class token; PiT's the class token."""
    autoformer, pit = (create_space(name, width_mult=0.25).supernet() for name in NAMES)
    x = torch.randn(2, 8, 1, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(autoformer.pool(x, Trace()), x[:, :, 0, 1:].mean(dim=2))
    assert torch.equal(pit.pool(x, Trace()), x[:, :, 0, 0])


@both
def test_embeddings_are_initialised_as_vits_are(name: str) -> None:
    space = create_space(name)
    for init, std in (("he", EMBEDDING_STD), ("normal", 1.0)):
        network = space.supernet(init=init)
        weight = network.get_parameter("positions.weight").detach()
        assert float(weight.std()) == pytest.approx(std, rel=0.02)


# ---------------------------------------------------------------------- scoring


@both
def test_every_weight_is_scored_at_he_scale(name: str) -> None:
    """Scores' gradients are those of a network that is initialised that way."""
    space: SearchSpace = create_space(
        name, resolution=32, patch_size=8, width_mult=0.25, num_classes=4
    )
    rng = torch.Generator().manual_seed(3)
    shades = torch.rand(8, 3, 32, 32, generator=rng)
    batch = Batch(shades, torch.arange(8) % 4, 4, (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))
    arch = space.sample(1, seed=1)[0]
    table = Scorer(space, ["snip", "grad_norm", "fisher"], batch=batch, seed=5).table([arch])
    plain = space.supernet(seed=5, init="normal").extract(arch)
    weights, maps = [], []
    for module in plain.modules():
        if isinstance(module, nn.Embedding):
            module.weight.data.mul_(EMBEDDING_STD)
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight
            # The classifier alone is linear all the way: gain 1.
            gain = 1.0 if module is plain.head else 2.0
            weight.data.mul_(math.sqrt(gain / weight[0].numel()))
            weights.append(weight)
            if module is not plain.head:
                module.register_forward_hook(lambda _, given, out: maps.append(out))
    loss = nn.functional.cross_entropy(plain(batch.normalised), batch.labels)
    grads = torch.autograd.grad(loss, [*weights, *maps])
    pairs = list(zip(weights, grads[: len(weights)], strict=True))
    snip = sum(float((w * g).detach().abs().sum()) for w, g in pairs)
    assert table["snip"][0] == pytest.approx(snip, rel=1e-3)
    norm = sum(float(g.norm()) for _, g in pairs)
    assert table["grad_norm"][0] == pytest.approx(norm, rel=1e-3)
    fisher = 0.0
    for out, grad in zip(maps, grads[len(weights) :], strict=True):
        flow = (out * grad).detach()
        flow = flow.sum(dim=(2, 3)) if flow.dim() == 4 else flow.sum(dim=1)
        fisher += float(flow.square().mean(dim=0).sum()) / 2.0
    assert table["fisher"][0] == pytest.approx(fisher, rel=1e-3)
