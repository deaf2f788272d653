"""What the supernet of every registered space has to do when it is sorted, trained and cut."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.channels import ChannelGroup
from scholarch.searchspace.elastic import ElasticNetwork
from scholarch.searchspace.extremes import largest
from scholarch.searchspace.space import SearchSpace
from scholarch.supernet.calibrate import calibrate
from scholarch.supernet.sort import importance, sort_channels
from scholarch.testing import registered
from scholarch.testing.light import SIDES, light_space

pytestmark = pytest.mark.parametrize("name", registered("space"))

CLASSES = 7


@pytest.fixture
def space(name: str) -> SearchSpace:
    return light_space(name, num_classes=CLASSES, width_mult=0.25)


def _randomised(space: SearchSpace, seed: int = 0) -> ElasticNetwork:
    """A supernet whose norm layers, biases and statistics are none of them alike."""
    network = space.supernet(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.dim() == 1:
                tensor.add_(0.5 * torch.rand(tensor.shape, generator=generator))
    return network


def _sortable(space: SearchSpace) -> tuple[ElasticNetwork, Architecture]:
    """In float64, where a permutation differs from none by rounding that nothing amplifies."""
    network = _randomised(space).double()
    if not network.channel_groups():
        pytest.skip(f"{space.name} has no channels to sort")
    return network, largest(space)


def _batches(space: SearchSpace, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        images = space.example(4, generator, SIDES[space.modality])
        yield images, torch.randint(CLASSES, (4,), generator=generator)


def _momentum(network: nn.Module, optimizer: torch.optim.SGD) -> dict[str, Tensor]:
    return {
        name: optimizer.state[parameter]["momentum_buffer"]
        for name, parameter in network.named_parameters()
        if parameter in optimizer.state
    }


def _sgd(network: nn.Module, lr: float) -> torch.optim.SGD:
    return torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, nesterov=True)


def test_groups_cover_whole_dimensions_once(space: SearchSpace) -> None:
    network = space.supernet()
    tensors = network.state_dict()
    groups = network.channel_groups()
    assert len({group.name for group in groups}) == len(groups)
    slots = [slot for group in groups for slot in group.slots]
    assert len({*slots}) == len(slots)
    for group in groups:
        assert group.size > 1
        assert {*group.importance} <= {*group.slots}
        for slot in group.slots:
            assert slot.offset + group.size <= tensors[slot.name].shape[slot.dim]
        # A norm layer's four tensors go together.
        for slot in group.slots:
            if slot.name.endswith("running_mean"):
                stem = slot.name.removesuffix("running_mean")
                others = {stem + what for what in ("weight", "bias", "running_var")}
                assert others <= {other.name for other in group.slots}


def test_sorting_leaves_the_largest_network_alone(space: SearchSpace) -> None:
    network, arch = _sortable(space)
    x = next(_batches(space))[0].double()
    average = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.eval()
    with torch.no_grad():
        before = network(x, arch)
        permutations = sort_channels(network, average)
        after = network(x, arch)
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)
    assert [*permutations] == [group.name for group in network.channel_groups()]
    # Nothing was tested if everything lay in order already.
    assert all(p.tolist() != sorted(p.tolist()) for p in permutations.values() if len(p) > 4)
    assert all(torch.equal(tensor, average[n]) for n, tensor in network.state_dict().items())
    for group in network.channel_groups():
        _check_descending(group, network)


def _check_descending(group: ChannelGroup, network: ElasticNetwork) -> None:
    # Sums over dimensions that other groups permute differ in their last digits.
    for first, second in itertools.pairwise(importance(group, network.state_dict()).tolist()):
        assert first >= second * (1 - 1e-12)


def test_momentum_moves_with_its_channels(space: SearchSpace) -> None:
    """A sort between two steps is no step: the third ends where it would have ended."""
    network, arch = _sortable(space)
    optimizer = _sgd(network, lr=0.01)
    batches = _batches(space)

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        functional.cross_entropy(network(images.double(), arch), labels).backward()
        optimizer.step()

    for batch in itertools.islice(batches, 2):
        step(*batch)
    kept = copy.deepcopy((network.state_dict(), optimizer.state_dict()))
    third, unseen = next(batches), next(batches)[0].double()
    outputs = {}
    for sort in ("never", "with momentum", "without"):
        weights, moments = copy.deepcopy(kept)
        network.load_state_dict(weights)
        optimizer.load_state_dict(moments)
        if sort == "with momentum":
            sort_channels(network, _momentum(network, optimizer))
        elif sort == "without":
            sort_channels(network)
        step(*third)
        with torch.no_grad():
            outputs[sort] = network.eval()(unseen, arch)
        network.train()
    unsorted = outputs["never"]
    torch.testing.assert_close(outputs["with momentum"], unsorted, rtol=1e-7, atol=1e-7)
    difference = (outputs["without"] - unsorted).abs().max()
    assert difference > 1e-3 * unsorted.abs().max()


def test_extraction_is_bit_exact_after_training_and_sorting(space: SearchSpace) -> None:
    network = _randomised(space, seed=1)
    optimizer = _sgd(network, lr=0.01)
    archs = [largest(space), *space.sample(3, seed=2)]
    for step, (images, labels) in enumerate(itertools.islice(_batches(space), 3)):
        network.track_statistics(step == 0)
        optimizer.zero_grad()
        for arch in archs[step : step + 2]:
            functional.cross_entropy(network(images, arch), labels).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step == 1:  # between training and training
            sort_channels(network, _momentum(network, optimizer))
    network.eval()
    x = next(_batches(space, 3))[0]
    with torch.no_grad():
        for arch in archs:
            nested, alone = network(x, arch), network.extract(arch)(x)
            assert nested.isfinite().all()
            assert torch.equal(nested, alone)


def test_extracted_networks_can_be_calibrated(space: SearchSpace) -> None:
    network = _randomised(space).eval()
    arch = space.sample(1, seed=4)[0]
    before = network.state_dict()
    kept = {name: tensor.clone() for name, tensor in before.items()}
    plain = network.extract(arch)
    images = [images for images, _ in itertools.islice(_batches(space), 2)]
    with torch.no_grad():
        stale = plain(images[0])
        calibrate(plain, images)
        fresh = plain(images[0])
    assert not plain.training
    assert torch.equal(stale, fresh) == ("bn" not in network.traits)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in before.items())
    # In eval nothing is left of the batch: an image alone has the logits it has in company.
    with torch.no_grad():
        torch.testing.assert_close(plain(images[0][:1]), fresh[:1], rtol=1e-3, atol=1e-4)
