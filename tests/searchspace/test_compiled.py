"""Extraction holds within its stated tolerance when the networks are compiled."""

from __future__ import annotations

import shutil
import warnings

import pytest
import torch

from scholarch.searchspace.factory import create_space


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_extraction_is_within_its_tolerance() -> None:
    space = create_space("resnet-cifar-s0")
    supernet, arch = space.supernet(seed=1).eval(), space.parse("111")
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # the compiler's own, of no concern here
        compiled = torch.compile(supernet.extract(arch))(x)
        eager = supernet(x, arch)
    assert (compiled - eager).abs().max() <= 1e-4 * eager.abs().max()
