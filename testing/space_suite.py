"""What every registered space has to do."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.elastic import Trace
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.latency.cut import cut
from scholarch.searchspace.latency.plan import shapes_of
from scholarch.searchspace.space import SearchSpace
from scholarch.testing import registered
from scholarch.testing.light import SIDES, inputs_for, light_space

pytestmark = pytest.mark.parametrize("name", registered("space"))


@pytest.fixture
def space(name: str) -> SearchSpace:
    return light_space(name, num_classes=7)


def test_sampling_is_seeded_and_inside(space: SearchSpace) -> None:
    matrix = space.sample_matrix(200, seed=3)
    assert matrix.shape == (200, len(space.genes))
    assert matrix.dtype == np.int64
    assert space.valid(matrix).all()
    assert np.array_equal(matrix, space.sample_matrix(200, seed=3))
    assert not np.array_equal(matrix, space.sample_matrix(200, seed=4))
    assert space.sample(200, seed=3) == space.decode(matrix)


def test_every_gene_value_turns_up(space: SearchSpace) -> None:
    matrix = space.sample_matrix(5000, seed=0)
    for i, gene in enumerate(space.genes):
        assert set(matrix[:, i]) == set(range(len(gene.values)))


def test_size_is_a_python_int_and_counts_the_rows(space: SearchSpace) -> None:
    """All rows, or only canonical ones where the space's docstring says so."""
    assert type(space.size) is int
    assert space.size <= math.prod(len(gene.values) for gene in space.genes)
    if space.size <= 200_000:
        rows = space.enumerate_matrix()
        assert len(np.unique(rows, axis=0)) == len(rows) == space.size


def test_mutation_changes_each_row_and_stays_inside(space: SearchSpace) -> None:
    parents = space.sample_matrix(500, seed=1)
    before = parents.copy()
    children = space.mutate(parents, np.random.default_rng(0))
    assert np.array_equal(parents, before)
    assert (children != parents).any(axis=1).all()
    assert space.valid(children).all()
    assert (children != parents).mean() < 0.75
    everything = space.mutate(parents, np.random.default_rng(0), rate=1.0)
    elastic = [len(gene.values) > 1 for gene in space.genes]
    assert (everything != parents)[:, elastic].all()


def test_crossover_takes_every_gene_from_a_parent(space: SearchSpace) -> None:
    first, second = space.sample_matrix(500, seed=1), space.sample_matrix(500, seed=2)
    children = space.crossover(first, second, np.random.default_rng(0))
    assert ((children == first) | (children == second)).all()
    differ = first != second
    share = (children == first)[differ].mean()
    assert 0.4 < share < 0.6


def test_notation_json_and_matrix_round_trip(space: SearchSpace) -> None:
    for arch in space.sample(50, seed=5):
        assert space.parse(str(arch)) == arch
        again = Architecture.from_json(json.loads(json.dumps(arch.to_json())))
        assert again == arch
        assert again.key == arch.key
        assert hash(again) == hash(arch)
    archs = space.sample(50, seed=5)
    assert space.decode(space.encode(archs)) == archs


def test_keys_tell_canonical_forms_apart(space: SearchSpace) -> None:
    matrix = np.unique(space.sample_matrix(3000, seed=0), axis=0)
    canonical = np.unique(space.canonical(matrix), axis=0)
    assert len(set(space.keys(matrix))) == len(canonical)
    assert space.valid(canonical).all()
    assert np.array_equal(space.canonical(canonical), canonical)


@pytest.mark.parametrize("text", ["", "nonsense", "0", "-1", "99999-1x1", "🦉"])
def test_foreign_notation_is_refused(space: SearchSpace, text: str) -> None:
    with pytest.raises(InvalidInputError):
        space.parse(text)


def test_rows_outside_are_refused(space: SearchSpace) -> None:
    row = space.sample_matrix(1, seed=0)
    row[0, 0] = 10_000
    with pytest.raises(InvalidInputError, match="not in space"):
        space.decode(row)
    stranger = Architecture("elsewhere", tuple(row[0].tolist()), "k", "elsewhere's")
    with pytest.raises(InvalidInputError, match="elsewhere"):
        space.encode([stranger])


@pytest.mark.parametrize("odd", [False, True])
def test_costs_equal_the_built_networks_count(space: SearchSpace, odd: bool) -> None:
    resolution = SIDES[space.modality] + odd
    archs = space.sample(3, seed=11 + odd)  # six in all
    costs = space.cost(archs, resolution=resolution)
    assert list(costs) == list(space.cost_names)
    for i, arch in enumerate(archs):
        network = space.build(arch).eval()
        assert costs["params"][i] == sum(p.numel() for p in network.parameters())
        values: list[int] = []
        for module in network.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                module.register_forward_hook(
                    lambda _, given, out, values=values: values.append(
                        given[0].numel() + out.numel()
                    )
                )
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(inputs_for(space, 1, resolution=resolution))
        assert costs["peak_memory"][i] == 4 * max(values)
        assert costs["flops"][i] == counter.get_total_flops() == 2 * costs["macs"][i]
        stages = space.stages(arch, resolution=resolution)
        assert sum(stage.params for stage in stages) == costs["params"][i]
        assert sum(stage.macs for stage in stages) == costs["macs"][i]


def test_costs_do_not_depend_on_company(space: SearchSpace) -> None:
    matrix = space.sample_matrix(64, seed=2)
    together = space.cost(matrix)
    alone = space.cost(matrix[17:18])
    assert {k: v[17] for k, v in together.items()} == {k: v[0] for k, v in alone.items()}
    assert len(space.cost(matrix[:0])["macs"]) == 0


def test_a_million_are_sampled_and_costed_in_ten_seconds(space: SearchSpace) -> None:
    begin = time.process_time()
    # A quarter of them in a quarter of the time: what is done once a call counts four times.
    costs = space.cost(space.sample_matrix(250_000, seed=0))
    assert time.process_time() - begin < 2.5
    assert np.isfinite(costs["macs"]).all()


def test_built_weights_come_from_the_seed_alone(space: SearchSpace) -> None:
    arch = space.sample(1, seed=0)[0]
    one, same, other = (space.build(arch, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("images", [1, 3])
def test_extraction_is_bit_exact(space: SearchSpace, images: int) -> None:
    supernet = space.supernet(seed=1)
    generator = torch.Generator().manual_seed(0)
    # Real statistics and affine parameters, or half of what is copied would be 0 and 1.
    with torch.no_grad():
        for tensor in [*supernet.parameters(), *supernet.buffers()]:
            if tensor.dim() == 1:
                tensor.add_(torch.rand(tensor.shape, generator=generator))
        x = inputs_for(space, images)
        supernet.eval()
        for arch in space.sample(2, seed=images):  # four in all
            assert torch.equal(supernet(x, arch), supernet.extract(arch)(x))


def test_extraction_in_bfloat16_is_within_its_tolerance(space: SearchSpace) -> None:
    supernet = space.supernet(seed=1).eval()
    x = inputs_for(space, 3)
    arch = space.sample(1, seed=5)[0]
    plain = supernet.extract(arch)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        nested, alone = supernet(x, arch).float(), plain(x).float()
    assert (nested - alone).abs().max() <= 5e-2 * alone.abs().max()


def test_training_mode_moves_statistics_and_extraction_follows(space: SearchSpace) -> None:
    supernet = space.supernet(seed=1).train()
    arch = space.sample(1, seed=9)[0]
    x = inputs_for(space, 5)
    before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    supernet.track_statistics(False)
    supernet(x, arch)
    assert all(torch.equal(before[name], buffer) for name, buffer in supernet.named_buffers())
    supernet.track_statistics(True)
    supernet(x, arch).sum().backward()
    if "bn" in supernet.traits:
        assert any(not torch.equal(before[name], b) for name, b in supernet.named_buffers())
    supernet.eval()
    assert torch.equal(supernet(x, arch), supernet.extract(arch)(x))


def test_equal_prefixes_of_steps_give_equal_tensors(space: SearchSpace) -> None:
    supernet = space.supernet(seed=1).eval()
    x = inputs_for(space, 2)
    arch = space.sample(1, seed=4)[0]
    steps = supernet.steps(arch)
    assert steps == supernet.steps(arch)
    assert len({*steps}) == len(steps)
    with torch.no_grad():
        out, trace = x, Trace(mask=supernet.mask_of(x))
        for step in steps:
            out = supernet.run_step(step, out, trace)
        features = supernet.embed(supernet.pool(out, trace), trace)
        assert torch.equal(supernet.classifier(features), supernet(x, arch))


def test_a_slice_of_normal_weights_is_normal(space: SearchSpace) -> None:
    supernet = space.supernet(seed=0, init="normal")
    network = supernet.extract(space.sample(1, seed=0)[0])
    weights = torch.cat([p.detach().flatten() for p in network.parameters() if p.dim() > 1])
    assert abs(float(weights.std()) - 1.0) < 0.02
    assert abs(float(weights.mean())) < 0.02


def test_spec_makes_an_equal_space(name: str) -> None:
    space = light_space(name, num_classes=5, resolution=48, width_mult=0.5)
    again = create_space(**json.loads(json.dumps(space.spec())))
    assert again.genes == space.genes
    arch = space.sample(1, seed=0)[0]
    assert again.cost([arch])["macs"] == space.cost([arch])["macs"]


@pytest.mark.parametrize(
    "options",
    [
        {"num_classes": 0},
        {"resolution": -3},
        {"in_channels": 2.5},
        {"width_mult": 0.0},
        {"no_such_option": 1},
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        create_space(name, **options)


def test_networks_can_be_cut_into_blocks_to_time(space: SearchSpace) -> None:
    """Blocks are the network's own modules and hold its convolutions and linear layers."""
    arch = space.sample(1, seed=8)[0]
    network = shapes_of(space, arch)
    chunks = cut(network, space.input_shape())
    assert all(chunk.key and chunk.path for chunk in chunks)
    assert len({chunk.path for chunk in chunks}) == len(chunks)
    inside = {id(layer) for chunk in chunks for m in chunk.modules for layer in m.modules()}
    called = [m for m in network.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear)]
    assert called
    assert all(id(layer) in inside for layer in called)
