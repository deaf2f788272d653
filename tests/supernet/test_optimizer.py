"""AdamW over flat weights is torch's, remembers, and goes on bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from scholarch.data import load_data
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.supernet.checkpoint import restore, save_checkpoint
from scholarch.supernet.flat import FlatNetwork
from scholarch.supernet.optimizer import make_optimizer
from scholarch.supernet.settings import TrainSettings
from scholarch.supernet.trainer import Trainer


def test_adamw_is_torchs() -> None:
    """Matrices decay, biases do not, as flat weights are parted."""
    with torch.random.fork_rng():
        one = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        other = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    other.load_state_dict(one.state_dict())
    settings = TrainSettings(optimizer="adamw", weight_decay=0.1, lr=0.01)
    flat = FlatNetwork(one)
    leaves = [nn.Parameter(t) for t in flat.parts(flat.values)]
    for leaf, gradient in zip(leaves, flat.parts(flat.gradients), strict=True):
        leaf.grad = gradient
    memory = make_optimizer(settings, leaves, flat)
    decay = [p for p in other.parameters() if p.dim() > 1]
    rest = [p for p in other.parameters() if p.dim() == 1]
    known = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=0.01
    )
    for group in memory.optimizer.param_groups:
        group["lr"] = 0.01
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        flat.gradients.zero_()
        known.zero_grad()
        one(x).square().sum().backward()
        other(x).square().sum().backward()
        memory.optimizer.step()
        known.step()
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def _trainer() -> Trainer:
    space = create_space("resnet-cifar", width_mult=0.25)
    settings = TrainSettings(schedule="delayed", epochs=0.1, batch_size=8, optimizer="adamw")
    return Trainer(space, load_data("digits"), settings)


def test_adamw_goes_on_bit_for_bit_and_moves_with_its_channels(tmp_path: Path) -> None:
    whole = _trainer()
    assert whole.settings.lr == 5e-4
    half = whole.plan.steps // 2
    while whole.next_step < half:
        whole.step()
    save_checkpoint(whole, tmp_path / "a.safetensors")
    resumed = _trainer()
    restore(resumed, tmp_path / "a.safetensors")
    for _ in range(3):
        whole.step()
        resumed.step()
    assert torch.equal(whole.flat.values, resumed.flat.values)
    for name, memory in whole.memory.tensors.items():
        assert float(memory.abs().max()) > 0.0
        assert torch.equal(memory, resumed.memory.tensors[name])


def test_runs_of_before_have_the_settings_that_they_had() -> None:
    assert "optimizer" not in TrainSettings().to_json()
    adamw = TrainSettings(optimizer="adamw")
    assert TrainSettings.from_json(adamw.to_json()) == adamw
    with pytest.raises(InvalidInputError, match="optimizer 'adam'; one of sgd, adamw"):
        TrainSettings(optimizer="adam")
