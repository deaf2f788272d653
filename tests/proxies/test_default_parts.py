"""The parts of the default ensembles that are ours, against slow formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scholarch.proxies.decorrelation import least_eigenvalue
from scholarch.proxies.ensemble import DEFAULT, ENSEMBLES, Ensemble, ensemble_for
from scholarch.proxies.ranks import log_rank_sum
from scholarch.proxies.registry import get_proxy
from scholarch.proxies.scoring import Scorer
from scholarch.searchspace.elastic import Trace
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.testing.proxy_suite import BATCH, SPACE, make_batch

PARTS = sorted({part for name in ENSEMBLES for part in ENSEMBLES[name].parts} - {"vkdnw"})


def score(name: str, text: str) -> float:
    return float(Scorer(SPACE, [name], batch=BATCH, seed=0).table([SPACE.parse(text)])[name][0])


def outputs(text: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Block outputs between stem and head, and maps, of the nested network run by hand."""
    network = SPACE.supernet(seed=0, init="normal").train()
    network.track_statistics(False)
    x, found, trace = BATCH.normalised, [], Trace(want_maps=True, he=True)
    with torch.no_grad():
        for step in network.steps(SPACE.parse(text)):
            x = network.run_step(step, x, trace)
            if step.kind not in {"stem", "head"}:
                found.append(x.clone())
    return found, trace.maps


def test_signal_growth_is_the_mean_log_variance() -> None:
    expected = np.mean([math.log(float(x.var())) for x in outputs("353")[0]])
    assert score("signal-growth", "353") == pytest.approx(expected, rel=1e-4)


def test_decorrelation_is_channels_times_least_eigenvalue() -> None:
    expected = 0.0
    for x in outputs("131")[1]:
        rows = x.permute(1, 0, 2, 3).flatten(1).double().numpy()
        expected += len(rows) * max(0.0, float(np.linalg.eigvalsh(np.corrcoef(rows))[0]))
    assert score("decorrelation", "131") == pytest.approx(expected, rel=1e-4)


def test_a_channel_that_repeats_another_leaves_nothing() -> None:
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert 0.8 < least_eigenvalue(x) < 1.0
    assert least_eigenvalue(torch.cat([x, 2.0 * x[:, :1] + 1.0], dim=1)) < 1e-6
    assert least_eigenvalue(torch.cat([x, torch.ones_like(x[:, :1])], dim=1)) == 0.0


def test_stretches_within_a_factor_of_two_cost_nothing() -> None:
    # Residual blocks: all stretches near 1, with images enough to tell.
    scorer = Scorer(SPACE, ["gradient-stability"], batch=make_batch(images=64), seed=0)
    assert scorer.table([SPACE.parse("333")])["gradient-stability"][0] == 0.0
    space = create_space("nasbench201", num_classes=4, resolution=16, width_mult=0.5)
    swelling = space.parse(
        "|skip_connect~0|+|skip_connect~0|skip_connect~1|"
        "+|skip_connect~0|skip_connect~1|skip_connect~2|"
    )
    scorer = Scorer(space, ["gradient-stability"], batch=BATCH, seed=0)
    value = scorer.table([swelling])["gradient-stability"][0]
    # Four paths of nothing but identities: each cell multiplies a gradient by 4.
    assert value < -1.0


def test_sizes_are_geometric() -> None:
    costs = SPACE.cost([SPACE.parse("353")])
    params, macs, depth = (float(costs[name][0]) for name in ("params", "macs", "depth"))
    assert score("capacity", "353") == pytest.approx(math.sqrt(params * macs))
    assert score("long-capacity", "353") == pytest.approx(params * depth**2)


def test_block_graphs_and_whole_graphs_give_the_same() -> None:
    archs = [SPACE.parse(text) for text in ("131", "313")]
    names = ["az-trainability", "decorrelation", "expr", "synflow"]
    alone = Scorer(SPACE, names, batch=BATCH, seed=0).table(archs)
    beside = Scorer(SPACE, [*names, "snip", "jacov", "fisher"], batch=BATCH, seed=0).table(archs)
    for name in names:
        np.testing.assert_allclose(alone[name], beside[name], rtol=1e-6)


def test_maps_and_graphs_are_let_go() -> None:
    scorer = Scorer(SPACE, ["decorrelation", "gradient-stability"], batch=BATCH, seed=0)
    arch = SPACE.parse("131")
    with torch.enable_grad():
        probe = next(iter(scorer._probes([arch], {arch.key: {}})))
    for block in probe.blocks:  # type: ignore[union-attr]
        assert not block.maps
        assert block.output.grad_fn is None


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_registered(name: str) -> None:
    assert get_proxy(name).name == name


def test_the_default_differs_by_family() -> None:
    assert ensemble_for(DEFAULT, "convnet") is ENSEMBLES[DEFAULT]
    assert ensemble_for(DEFAULT, "transformer") is ENSEMBLES[f"{DEFAULT}-transformer"]
    assert ensemble_for("az-nas", "transformer") is ENSEMBLES["az-nas"]
    assert create_space("resnet-cifar-s0").family == "convnet"
    assert create_space("vitbench-pit").family == "transformer"


def test_the_default_of_another_family_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="convnet; write 'ensemble'.*expr, long-capacity"):
        ensemble_for(f"{DEFAULT}-transformer", "convnet")
    assert ensemble_for(f"{DEFAULT}-transformer", "transformer").parts == ("expr", "long-capacity")


def test_weights_count() -> None:
    ensemble = Ensemble("weighted", ("a", "b"), 1, "of a test", (1.0, 0.5))
    column = {"a": np.array([1.0, 2.0]), "b": np.array([2.0, 1.0])}
    total = log_rank_sum(column, column, ensemble.weight_of)
    assert total == pytest.approx(
        [math.log(0.25) + 0.5 * math.log(0.75), math.log(0.75) + 0.5 * math.log(0.25)]
    )
    assert Ensemble("plain", ("a", "b"), 1, "of a test").weight_of == {"a": 1.0, "b": 1.0}
