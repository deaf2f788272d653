"""What every registered distiller has to do."""

from __future__ import annotations

import dataclasses
import inspect
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from scholarch.proxies.taps import Taps, TokenTaps
from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.distil.distiller import (
    DISTILLERS,
    Distiller,
    Pair,
    Shapes,
    Sides,
    TokenShapes,
    reads_of,
)
from scholarch.supernet.distil.factory import create_distiller, describe_distiller
from scholarch.testing import registered

IMAGES, CLASSES = 24, 5


class Layout(NamedTuple):
    """A network's shapes.

    It is a Transformer as well, of as many layers as stages: heads of width 2, as many as the
    first stage has channels and one more in every other layer.

    Attributes:
        channels: of each stage; the last stage is the final map.
        sides: height and width of each.
    """

    channels: tuple[int, ...]
    sides: tuple[int, ...]

    @property
    def grid(self) -> int:
        """Patches in a row; a class token stands in front of them."""
        return max(2, self.sides[-1])

    @property
    def tokens(self) -> TokenShapes:
        heads = tuple((self.channels[0] + i % 2, 2) for i in range(len(self.channels)))
        return TokenShapes((3 * self.channels[-1],) * (1 + len(heads)), heads)

    @property
    def shapes(self) -> Shapes:
        stages = tuple((c, s, s) for c, s in zip(self.channels, self.sides, strict=True))
        return Shapes(stages, stages[-1], self.channels[-1], CLASSES, self.tokens)


SAME = Layout((4, 6, 8), (8, 4, 2))
WIDER = Layout((7, 5, 12), (8, 4, 2))
FINER = Layout((4, 6, 8), (16, 8, 5))
DEEPER = Layout((3, 4, 6, 8, 10), (16, 8, 6, 4, 2))
TOKENS = Layout((9,), (4,))
ONE_PIXEL = Layout((4, 6, 8), (4, 2, 1))

PAIRS = {
    "equal shapes": (SAME, SAME),
    "wider teacher": (SAME, WIDER),
    "narrower teacher": (WIDER, SAME),
    "finer teacher": (SAME, FINER),
    "coarser teacher": (FINER, SAME),
    "more stages in the teacher": (SAME, DEEPER),
    "fewer stages in the teacher": (DEEPER, SAME),
    "tokens of one stage": (SAME, TOKENS),
    "tokens both": (TOKENS, TOKENS),
    "one pixel": (ONE_PIXEL, WIDER),
}


def network(layout: Layout, images: Tensor) -> Taps:
    """Random taps that want gradients; the same for the same layout and image."""
    rng = np.random.default_rng([*layout.channels, *layout.sides])
    parts = [rng.normal(size=(IMAGES, c, s, s)) for c, s in zip(*layout, strict=True)]
    parts.append(rng.normal(size=(IMAGES, layout.channels[-1])))
    parts.append(rng.normal(0, 2, size=(IMAGES, CLASSES)))
    *maps, pooled, logits = (torch.tensor(p[images.numpy()], dtype=torch.float32) for p in parts)
    classifier = torch.tensor(rng.normal(size=(CLASSES, layout.channels[-1])), dtype=torch.float32)
    n = 1 + layout.grid**2
    streams = [rng.normal(size=(IMAGES, n, width)) for width in layout.tokens.widths]
    heads = [rng.normal(size=(IMAGES, 3, a, n, d)) for a, d in layout.tokens.heads]
    layers, qkv = (
        tuple(torch.tensor(p[images.numpy()], dtype=torch.float32).requires_grad_() for p in parts)
        for parts in (streams, heads)
    )
    leaves = [t.requires_grad_() for t in (*maps, pooled, logits, classifier)]
    return taps_of(leaves, TokenTaps(layers, qkv, None, (layout.grid, layout.grid)))


def taps_of(leaves: list[Tensor], tokens: TokenTaps | None) -> Taps:
    """Stages, features, logits and classifier, in that order, as taps; and tokens."""
    *maps, pooled, logits, classifier = leaves
    return Taps(tuple(maps), maps[-1], pooled, logits, classifier, tokens)


def changed(tokens: TokenTaps | None, by: Callable[[Tensor], Tensor]) -> TokenTaps:
    """Token taps whose tensors are new leaves, each a function of the old."""
    assert tokens is not None
    layers, qkv = (
        tuple(by(x.detach()).clone().requires_grad_() for x in of)
        for of in (tokens.layers, tokens.qkv)
    )
    return TokenTaps(layers, qkv, tokens.mask, tokens.grid)


def leaves_of(taps: Taps) -> list[Tensor]:
    """What can get a gradient."""
    given = [*taps.stages, taps.final_map, taps.pooled, taps.logits, taps.classifier]
    if taps.tokens is not None:
        given += [*taps.tokens.layers, *taps.tokens.qkv]
    seen = {id(tensor): tensor for tensor in given if tensor is not None}
    return list(seen.values())


def batch(
    student: Layout, teacher: Layout, *, first: int = 0, count: int = 8, progress: float = 0.5
) -> Pair:
    """Consecutive images as a batch; past the warm-up of every paper."""
    indices = torch.arange(first, first + count)
    pair = Pair(
        network(student, indices), network(teacher, indices), indices % CLASSES, indices, progress
    )
    if student == teacher:
        other = np.random.default_rng(1)
        noisy = [
            (t.detach() + torch.tensor(other.normal(size=t.shape), dtype=t.dtype)).requires_grad_()
            for t in [*pair.student.stages, pair.student.pooled]
        ]
        logits, weight = pair.student.logits, pair.student.classifier
        assert logits is not None
        assert weight is not None
        student_logits = (0.5 * logits.detach().flip(0)).requires_grad_()

        def with_noise(x: Tensor) -> Tensor:
            return x + torch.tensor(other.normal(size=x.shape), dtype=x.dtype)

        tokens = changed(pair.student.tokens, with_noise)
        student_taps = taps_of([*noisy, student_logits, weight], tokens)
        pair = dataclasses.replace(pair, student=student_taps)
    return pair


def with_equal_networks(pair: Pair) -> Pair:
    """The student's taps are the teacher's numbers."""
    given = [*pair.teacher.stages, pair.teacher.pooled]
    logits, weight = pair.teacher.logits, pair.teacher.classifier
    assert logits is not None
    assert weight is not None
    copies = [t.detach().clone().requires_grad_() for t in (*given, logits, weight)]
    tokens = changed(pair.teacher.tokens, torch.clone)
    return dataclasses.replace(pair, student=taps_of(copies, tokens))


def with_constants(pair: Pair, value: float) -> Pair:
    """A student whose taps all hold one value."""
    logits, weight = pair.student.logits, pair.student.classifier
    assert logits is not None
    assert weight is not None
    given = [*pair.student.stages, pair.student.pooled, logits, weight]
    leaves = [torch.full_like(t, value).requires_grad_() for t in given]
    tokens = changed(pair.student.tokens, lambda x: torch.full_like(x, value))
    return dataclasses.replace(pair, student=taps_of(leaves, tokens))


def with_padding(pair: Pair, noise: float) -> Pair:
    """Texts of three tokens and two more that are none: there is noise in their place."""
    seen = []
    for side in (pair.student, pair.teacher):
        assert side.tokens is not None
        n = side.tokens.layers[0].shape[1]
        mask = (torch.arange(n) < 3).expand(len(side.pooled), n)
        rng = np.random.default_rng(2)

        def pad(x: Tensor, mask: Tensor = mask, rng: np.random.Generator = rng) -> Tensor:
            real = mask.unsqueeze(-1) if x.dim() == 3 else mask[:, None, None, :, None]
            return torch.where(real, x, noise * torch.tensor(rng.normal(size=x.shape)).to(x))

        tokens = dataclasses.replace(changed(side.tokens, pad), mask=mask, grid=None)
        seen.append(dataclasses.replace(side, tokens=tokens))
    return dataclasses.replace(pair, student=seen[0], teacher=seen[1])


def make(name: str, student: Layout, teacher: Layout, seed: int = 0) -> Distiller:
    """A distiller with its defaults, prepared."""
    made = create_distiller(name, Sides(student.shapes, teacher.shapes, IMAGES, seed))

    def batches() -> Iterator[tuple[Taps, Tensor, Tensor]]:
        for part in torch.arange(IMAGES).split(7):
            yield network(teacher, part), part % CLASSES, part

    made.prepare(batches)
    return made.train()


def gradients(loss: Tensor, pair: Pair) -> list[Tensor]:
    """Of every leaf of the student, zeros where the loss does not read it."""
    leaves = leaves_of(pair.student)
    found = torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]


@pytest.mark.parametrize("name", registered("distiller"))
class TestEveryDistiller:
    def test_says_in_a_line_what_it_is_and_whose(self, name: str) -> None:
        line = describe_distiller(name)
        assert len(line) <= 100
        years = [word.strip("(),.§;") for word in line.split()]
        assert any(w.isdigit() and 2000 < int(w) < 2100 for w in years), "the paper is named"
        doc = inspect.getdoc(DISTILLERS[name]) or ""
        known = [p for p in inspect.signature(DISTILLERS[name]).parameters if p != "sides"]
        assert all(f"{option}:" in doc for option in known), "every option is explained"

    @pytest.mark.parametrize("pair", PAIRS)
    def test_any_two_networks_compare(self, name: str, pair: str) -> None:
        layouts = PAIRS[pair]
        for count in (8, 2):
            made, given = make(name, *layouts), batch(*layouts, count=count)
            loss = made(given)
            assert loss.shape == ()
            assert loss.dtype == torch.float32
            assert loss.isfinite()
            found = gradients(loss, given)
            assert all(g.isfinite().all() for g in found)
            # Two images alone have but one distance, and no angle.
            assert count == 2 or any(g.abs().max() > 0 for g in found)

    def test_is_zero_for_equal_networks(self, name: str) -> None:
        made, pair = make(name, SAME, SAME), with_equal_networks(batch(SAME, SAME))
        loss = made(pair)
        assert loss.isfinite()
        assert all(g.isfinite().all() for g in gradients(loss, pair))
        if made.zero_at_teacher:
            assert loss.detach().abs() < 1e-4
            assert made(batch(SAME, SAME)).detach() > 2 * loss.detach().abs()

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_constant_taps_have_finite_gradients(self, name: str, value: float) -> None:
        pair = with_constants(batch(SAME, WIDER), value)
        made = make(name, SAME, WIDER)
        loss = made(pair)
        assert loss.isfinite()
        assert all(g.isfinite().all() for g in gradients(loss, pair))
        loss.backward()
        for label, parameter in made.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), label

    def test_all_that_is_learnt_gets_a_gradient_and_the_teacher_none(self, name: str) -> None:
        made, pair = make(name, SAME, WIDER), batch(SAME, WIDER)
        made(pair).backward()
        for label, parameter in made.named_parameters():
            assert parameter.grad is not None, label
            assert parameter.grad.isfinite().all(), label
            assert parameter.grad.abs().max() > 0, label
        assert all(leaf.grad is None for leaf in leaves_of(pair.teacher))

    def test_logits_alone_where_it_says_so(self, name: str) -> None:
        made, pair = make(name, SAME, WIDER), batch(SAME, WIDER)
        if not made.logits_only:
            return
        empty = torch.zeros(8, 0, 0, 0)
        assert not list(made.parameters())
        bare = [Taps((), empty, torch.zeros(8, 0), t.logits) for t in (pair.student, pair.teacher)]
        alone = dataclasses.replace(pair, student=bare[0], teacher=bare[1])
        assert torch.equal(made(alone), made(pair))

    def test_the_seed_and_nothing_else_decides(self, name: str) -> None:
        before = _global_generators()
        runs = []
        for seed in (3, 3, 4):
            made = make(name, SAME, WIDER, seed)
            losses = [made(batch(SAME, WIDER, first=i, progress=i / 24)).detach() for i in (0, 8)]
            runs.append((losses, made.state_dict()))
        assert _global_generators() == before
        (first, weights), (again, same), (_, others) = runs
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert all(torch.equal(weights[key], same[key]) for key in weights)
        if any(p.dim() > 1 for p in made.parameters()):
            assert any(not torch.equal(weights[key], others[key]) for key in weights)

    def test_goes_on_from_its_state(self, name: str) -> None:
        whole, steps = make(name, SAME, WIDER), [0, 8, 16, 4]
        losses = [whole(batch(SAME, WIDER, first=i, progress=i / 24)).detach() for i in steps[:2]]
        state = {key: tensor.clone() for key, tensor in whole.state_dict().items()}
        losses += [whole(batch(SAME, WIDER, first=i, progress=i / 24)).detach() for i in steps[2:]]
        # A run that goes on does not look at the teacher again.
        resumed = create_distiller(name, Sides(SAME.shapes, WIDER.shapes, IMAGES, 0)).train()
        resumed.load_state_dict(state)
        rest = [resumed(batch(SAME, WIDER, first=i, progress=i / 24)).detach() for i in steps[2:]]
        assert [float(x) for x in rest] == [float(x) for x in losses[2:]]

    def test_is_learnt_by_plain_descent(self, name: str) -> None:
        made, pair = make(name, SAME, WIDER), batch(SAME, WIDER)
        learnt = [*leaves_of(pair.student), *made.parameters()]
        # Small steps in the direction of the gradient, whatever the weight of the loss.
        optimiser = torch.optim.SGD(learnt, lr=0.02)
        losses = []
        for _ in range(30):
            loss = made(pair)
            losses.append(float(loss.detach()))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learnt, 1.0)
            optimiser.step()
        assert losses[-1] < losses[0]
        # On the whole: a memory that moves, or a corner, may cost a step.
        tens = [sum(losses[i : i + 10]) for i in (0, 10, 20)]
        assert all(later < earlier for earlier, later in pairwise(tens))

    def test_bad_options_are_refused(self, name: str) -> None:
        sides = Sides(SAME.shapes, WIDER.shapes, IMAGES, 0)
        with pytest.raises(InvalidInputError, match="has no option bogus; it has "):
            create_distiller(name, sides, bogus=1)
        parameters = inspect.signature(DISTILLERS[name]).parameters
        for option in parameters:
            if option == "sides":
                continue
            for bad in (float("nan"), "bad", True):
                with pytest.raises(InvalidInputError, match=rf"{option} = .*; need "):
                    create_distiller(name, sides, **{option: bad})

    def test_padding_changes_nothing(self, name: str) -> None:
        if not reads_of(name):
            pytest.skip("reads no tokens")
        given = [with_padding(batch(SAME, WIDER), noise) for noise in (0.0, 10.0)]
        losses = [make(name, SAME, WIDER)(pair) for pair in given]
        assert torch.equal(losses[0], losses[1])
        assert not torch.equal(losses[0], make(name, SAME, WIDER)(batch(SAME, WIDER)))
        tokens = given[1].student.tokens
        assert tokens is not None
        for leaf in (*tokens.layers, *tokens.qkv):
            (grad,) = torch.autograd.grad(losses[1], [leaf], retain_graph=True, allow_unused=True)
            padded = None if grad is None else grad[..., 3:, :]
            assert padded is None or not padded.any()

    def test_networks_it_cannot_compare_are_refused(self, name: str) -> None:
        made = make(name, SAME, SAME)
        few = SAME.shapes._replace(classes=CLASSES + 1)
        if made.logits_only:
            with pytest.raises(InvalidInputError, match="5 classes apart, the teacher 6"):
                create_distiller(name, Sides(SAME.shapes, few, IMAGES, 0))
        if reads_of(name):
            convolutional = SAME.shapes._replace(tokens=None)
            for side, sides in (
                ("student", (convolutional, SAME.shapes)),
                ("teacher", (SAME.shapes, convolutional)),
            ):
                with pytest.raises(InvalidInputError, match=f"the {side} is none; take a dist"):
                    create_distiller(name, Sides(*sides, IMAGES, 0))


def _global_generators() -> tuple[object, ...]:
    legacy = np.random.get_state()  # noqa: NPY002 (looks, draws nothing)
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), str(legacy)
