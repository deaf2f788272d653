"""Teachers and students of text and sound: taps, padding, and proxies that cannot take them."""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import scholarch
from scholarch.proxies.batch import Batch
from scholarch.proxies.controls import labels_only
from scholarch.proxies.registry import get_proxy, list_proxies
from scholarch.proxies.scoring import Scorer
from scholarch.proxies.tap_finder import TapPlan, find_taps
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.inputs import pack_sound, pack_tokens, packed
from scholarch.searchspace.space import SearchSpace
from scholarch.searchspace.trace import Trace
from scholarch.testing.light import light_batch, light_space, light_taps

WORDS, WIDTH, CLASSES, LENGTH = 40, 16, 4, 12
ZEROS, ONES = (0.0, 0.0), (1.0, 1.0)


class Reader(nn.Module):
    """Embedded words, layers in a container, the mean over real tokens, a classifier."""

    def __init__(self, depth: int = 6, classes: int = CLASSES) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, classes) if classes else nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        real = (ids != 0).unsqueeze(2)
        x = self.encoder(self.words(ids), src_key_padding_mask=ids == 0) * real
        return cast(Tensor, self.head(x.sum(dim=1) / real.sum(dim=1)))


class Listener(nn.Module):
    """A strided convolution of the waveform and two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.wave = nn.Conv1d(1, WIDTH, 80, stride=40)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True)
        self.layers = nn.ModuleList([layer, nn.TransformerEncoderLayer(WIDTH, 2, 32)])
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, wave: Tensor) -> Tensor:
        x = self.wave(wave.unsqueeze(1)).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return cast(Tensor, self.head(x.mean(dim=1)))


def made(kind: type[nn.Module], **given: int) -> nn.Module:
    """A module of fixed weights, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(**given).eval()


def ids(seed: int = 0, n: int = 8) -> Tensor:
    """Random words; the last text is half padding."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randint(1, WORDS, (n, LENGTH), generator=generator)
    found[-1, LENGTH // 2 :] = 0
    return found


def text(words: Tensor | None = None, **given: object) -> Batch:
    words = ids() if words is None else words
    labels = torch.arange(len(words)) % CLASSES
    batch = Batch(packed(pack_tokens(words)), labels, CLASSES, ZEROS, ONES, "words", "text")
    return dataclasses.replace(batch, **given)


def pictures() -> Batch:
    labels = torch.arange(8) % CLASSES
    return Batch(torch.zeros(8, 3, 8, 8), labels, CLASSES, (0.5,) * 3, (0.3,) * 3, "pictures")


def sound(samples: int = 4000) -> Batch:
    generator = torch.Generator().manual_seed(0)
    wave = (torch.randn(8, samples, generator=generator) * 3000).to(torch.int16)
    labels = torch.arange(8) % CLASSES
    return Batch(packed(pack_sound(wave)), labels, CLASSES, ZEROS, ONES, "noise", "sound")


# ---------------------------------------------------------------------- teachers


def test_layers_of_a_text_network_are_its_stages() -> None:
    plan = find_taps(made(Reader), ids())
    layers = [f"encoder.layers.{i}" for i in (1, 2, 4, 5)]
    assert plan.stages == tuple(layers)
    assert plan.classifier == "head"
    assert plan.final in ("encoder", "encoder.layers.5", ":mul")


def test_a_text_teacher_is_measured_without_padding() -> None:
    module = made(Reader)
    teacher = scholarch.load_teacher(module)
    assert teacher.modality == "text"
    assert teacher.num_classes == CLASSES
    assert teacher.macs is not None
    taps = teacher.observe(text())
    with torch.no_grad():
        torch.testing.assert_close(taps.logits, module(ids()))
    assert [tuple(stage.shape) for stage in taps.stages] == [(8, WIDTH, 1, LENGTH)] * 4
    for x in (*taps.stages, taps.final_map):
        assert (x[-1, :, :, LENGTH // 2 :] == 0).all()
        assert (x[0] != 0).any(dim=0).all()


def test_without_a_classifier_the_embedding_is_what_the_network_gives() -> None:
    module = made(Reader, classes=0)
    taps = scholarch.load_teacher(module).observe(text())
    assert taps.logits is None
    with torch.no_grad():
        torch.testing.assert_close(taps.pooled, module(ids()))


def test_a_sound_teacher_is_given_the_waveform() -> None:
    teacher = scholarch.load_teacher(made(Listener))
    assert teacher.modality == "sound"
    taps = teacher.observe(sound())
    assert [tuple(stage.shape) for stage in taps.stages] == [(8, WIDTH, 1, 99)] * 2
    assert teacher.plan.stages == ("layers.0", "layers.1")
    with torch.no_grad():
        wave = teacher.prepare(sound())
        assert wave.shape == (8, 4000)
        torch.testing.assert_close(taps.logits, teacher.module(wave))


def test_data_of_another_kind_are_refused() -> None:
    teacher = scholarch.load_teacher(made(Reader, depth=1))
    images = pictures()
    with pytest.raises(InvalidInputError, match="'Reader' takes text, data 'pictures' are images"):
        teacher.observe(images)
    with pytest.raises(InvalidInputError, match="'Reader' takes text, data 'noise' is sound"):
        teacher.observe(sound())
    with pytest.raises(InvalidInputError, match="takes images, data 'words' is text"):
        scholarch.load_teacher("resnet14-digits").observe(text())
    with pytest.raises(InvalidInputError, match="'words' has tokens up to .*'Reader' knows 40"):
        teacher.observe(text(ids() + WORDS))


def test_a_plan_survives_its_json() -> None:
    plan = find_taps(made(Reader, depth=2), ids())
    assert TapPlan.from_json(plan.to_json()) == plan


# ---------------------------------------------------------------------- labels


def test_targets_stand_for_labels() -> None:
    vectors = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    batch = text(labels=vectors, num_classes=5)
    assert batch.has_targets
    assert batch.fingerprint != text().fingerprint
    for wrong in (vectors[:4], vectors[:, :3], vectors * torch.nan):
        with pytest.raises(InvalidInputError, match="targets"):
            text(labels=wrong, num_classes=5)
    with pytest.raises(InvalidInputError, match="int64"):
        text(labels=torch.zeros(8))
    with pytest.raises(InvalidInputError, match="modality 'smell'"):
        text(modality="smell")


def test_a_teacher_of_labels_alone_needs_classes() -> None:
    taps = scholarch.load_teacher(made(Reader, depth=1)).observe(text())
    with pytest.raises(InvalidInputError, match="a teacher's vectors, not classes"):
        labels_only(taps, torch.zeros(8, CLASSES), CLASSES)


# ---------------------------------------------------------------------- students


@pytest.fixture(params=["autodistil-tiny", "bert-from-teacher"])
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return light_space(request.param, num_classes=CLASSES)


def test_every_proxy_scores_text_or_says_why_not(space: SearchSpace) -> None:
    batch, taps = light_batch(space), light_taps(space)
    traits = space.supernet().traits
    known = [n for n in list_proxies() if not n.startswith("diswot-released")]
    known = [n for n in known if get_proxy(n).images <= len(batch)]
    unfit = [n for n in known if get_proxy(n).needs & {"images", "input_gradient"}]
    lacking = [n for n in known if ({"bn", "relu"} - traits) & get_proxy(n).needs]
    for name in {*unfit, *lacking}:
        with pytest.raises(InvalidInputError, match=name):
            Scorer(space, [name], batch=batch, teacher=taps)
    fit = [n for n in known if n not in {*unfit, *lacking}]
    assert {"expr", "dss", "snip", "grasp", "te-nas-ntk", "gradsign", "kd-cka", "diswot"} <= {*fit}
    assert {"zen", "synflow", "jacov", "epe_nas"} <= {*unfit}
    archs = space.sample(3, seed=1)
    together = Scorer(space, fit, batch=batch, teacher=taps).table(archs)
    few = "more positions than channels"
    assert all(few in why for why in together.failures.values())
    for i, arch in enumerate(archs):
        alone = Scorer(space, fit, batch=batch, teacher=taps).table([arch])
        assert all(np.array_equal(alone[p], together[p][i : i + 1], True) for p in fit)


def test_what_stands_behind_the_end_of_a_text_changes_no_score(space: SearchSpace) -> None:
    """More padding, as in a batch with a longer text, is no other text."""
    words = ids() % WORDS
    longer = torch.cat([words, torch.zeros_like(words)], dim=1)
    archs = space.sample(2, seed=1)
    for name in ("snip", "grad_norm", "gradsign"):
        short, padded = (
            Scorer(space, [name], batch=text(each)).table(archs)[name] for each in (words, longer)
        )
        np.testing.assert_allclose(short, padded, rtol=1e-4)


def test_students_have_evenly_spaced_layers_for_stages(space: SearchSpace) -> None:
    scorer = Scorer(space, ["expr"], batch=light_batch(space))
    arch = space.sample(1, seed=3)[0]
    (probe,) = scorer._probes([arch], {arch.key: {}})
    stages = probe.taps.stages
    assert len(stages) == min(4, sum(step.kind == "layer" for step in scorer.network.steps(arch)))
    assert all(stage.shape[2] == 1 for stage in stages)
    assert probe.mask is not None
    for stage in stages:
        assert (stage.squeeze(2).transpose(1, 2)[~probe.mask] == 0).all()
    again = probe.run(probe.images, Trace(he=True))
    torch.testing.assert_close(again, probe.final_map)


def test_groups_score_as_one_by_one(space: SearchSpace) -> None:
    names = ["expr", "az-trainability", "kd-cka"]
    archs = space.sample(5, seed=1)
    given = {"batch": light_batch(space), "teacher": light_taps(space)}
    alone = Scorer(space, names, **given).table(archs)
    together = Scorer(space, names, **given, group=3).table(archs)
    assert not alone.failures
    for name in names:
        np.testing.assert_allclose(together[name], alone[name], rtol=2e-5, atol=2e-5)


def test_images_are_no_text(space: SearchSpace) -> None:
    batch = pictures()
    with pytest.raises(InvalidInputError, match=r"takes text, data 'pictures' are images"):
        Scorer(space, ["expr"], batch=batch)
    targets = torch.randn(8, CLASSES, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InvalidInputError, match="'snip' is not defined here.*classes"):
        Scorer(space, ["snip"], batch=text(labels=targets))
    assert np.isfinite(
        Scorer(space, ["expr"], batch=text(labels=targets)).table(space.sample(1))["expr"]
    )
