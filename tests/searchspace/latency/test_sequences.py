"""Networks of text and sound are cut into blocks and timed as those of images are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scholarch.searchspace.inputs import token_ids, waveform
from scholarch.searchspace.latency.bench import open_session
from scholarch.searchspace.latency.cut import cut, plain_input
from scholarch.searchspace.latency.plan import plan_blocks
from scholarch.searchspace.latency.runtimes.base import create_runtime
from scholarch.searchspace.narrow import narrow
from scholarch.testing.light import light_space


def test_plain_inputs_are_words_that_every_vocabulary_has() -> None:
    x = plain_input(3, (2, 1, 20))
    assert (token_ids(x) == 1).all()
    assert waveform(x).isfinite().all()
    assert plain_input(2, (3, 8, 8)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_text_networks_are_timed_block_by_block(runtime: str) -> None:
    if runtime == "onnxruntime":
        pytest.importorskip("onnxscript", reason="needs the extra onnx")
    whole = light_space("autodistil-tiny", num_classes=3)
    values = {gene.name: gene.values for gene in whole.genes}
    few = {name: list(values[name][:2]) for name in values}
    space = narrow(whole, few | {"depth": [4]})
    plan = plan_blocks(space)
    rows = space.sample_matrix(2, seed=0)
    session = open_session(space, plan, rows, create_runtime(runtime, threads=1))
    for loaded, row in zip(session.loaded, rows, strict=True):
        times = np.median(loaded.parts(3), axis=0)
        assert np.isfinite(times).all()
        assert len(times) == int((plan.indices(row[None]) >= 0).sum())
        assert times.sum() > 0.0


def test_shapes_tell_the_same_blocks_as_the_network_itself() -> None:
    for name in ("bert-from-teacher", "whisper-from-teacher"):
        space = light_space(name, num_classes=3)
        arch = space.sample(1, seed=3)[0]
        with torch.device("meta"):
            shapes = cut(space.build(arch), space.input_shape())
        real = cut(space.build(arch), space.input_shape())
        assert [chunk.key for chunk in shapes] == [chunk.key for chunk in real]
