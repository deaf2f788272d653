"""Losses against numpy in float64, gradients against autograd and finite differences."""

import math

import numpy as np
import pytest
import torch

from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.losses import (
    DIVERGENCES,
    alpha_divergence,
    cross_entropy,
    kl_divergence,
    soft_cross_entropy,
)
from scholarch.supernet.robust.losses import rslad, trades


def make_logits(seed, rows=6, classes=5, scale=1.5):
    values = np.random.default_rng(seed).normal(0, scale, (rows, classes))
    return torch.from_numpy(values)


def probabilities(logits, temperature=1.0):
    return (logits / temperature).softmax(1).numpy()


def divergence(p, q, alpha):
    """D_α of rows by its definition."""
    if alpha == 1:
        return (p * np.log(p / q)).sum(1)
    if alpha == 0:
        return (q * np.log(q / p)).sum(1)
    return (q * ((p / q) ** alpha - 1)).sum(1) / (alpha * (alpha - 1))


def test_cross_entropy_with_smoothing():
    logits, labels = make_logits(0), torch.tensor([0, 1, 2, 3, 4, 0])
    target = np.full((6, 5), 0.1 / 5) + 0.9 * np.eye(5)[labels]
    expected = -(target * np.log(probabilities(logits))).sum(1).mean()
    assert float(cross_entropy(logits, labels, 0.1)) == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_targets_and_their_entropy(temperature):
    student, teacher = make_logits(0), make_logits(1)
    p, q = probabilities(teacher, temperature), probabilities(student, temperature)
    expected = -(p * np.log(q)).sum(1).mean() * temperature**2
    entropy = -(p * np.log(p)).sum(1).mean() * temperature**2
    assert float(soft_cross_entropy(student, teacher, temperature)) == pytest.approx(expected)
    assert float(kl_divergence(student, teacher, temperature)) == pytest.approx(expected - entropy)


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_no_gradient_reaches_the_teacher_and_none_is_left_where_they_agree(name):
    student = make_logits(0).requires_grad_()
    teacher = make_logits(1).requires_grad_()
    DIVERGENCES[name](student, teacher, 2.0).backward()
    assert teacher.grad is None
    assert student.grad.abs().max() > 1e-3
    student.grad = None
    DIVERGENCES[name](student, student.detach(), 2.0).backward()
    assert student.grad.abs().max() < 1e-12


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_computed_in_float32_whatever_the_logits_type(name, dtype):
    student, teacher = make_logits(0).to(dtype), make_logits(1).to(dtype)
    for autocast in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = DIVERGENCES[name](student, teacher)
        assert value.dtype == torch.float32
        assert torch.equal(value, DIVERGENCES[name](student.float(), teacher.float()))
    labels = torch.zeros(6, dtype=torch.long)
    assert torch.equal(cross_entropy(student, labels), cross_entropy(student.float(), labels))


@pytest.mark.parametrize("alpha", [-1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
def test_one_alpha_without_a_clip_is_the_divergence_itself(alpha):
    student, teacher = make_logits(0, scale=0.8), make_logits(1, scale=0.8)
    p, q = probabilities(teacher), probabilities(student)

    def value(logits):
        return alpha_divergence(logits, teacher, alpha_min=alpha, alpha_max=alpha, clip=math.inf)

    assert float(value(student)) == pytest.approx(divergence(p, q, alpha).mean())
    leaf = student.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(leaf), leaf)
    for row, column in [(0, 0), (2, 3), (5, 4)]:
        moved = torch.zeros_like(student)
        moved[row, column] = 1e-5
        slope = (value(student + moved) - value(student - moved)) / 2e-5
        assert float(gradient[row, column]) == pytest.approx(float(slope), rel=1e-5, abs=1e-9)


def test_the_larger_of_both_is_taken_sample_by_sample():
    student, teacher = make_logits(2), make_logits(3)
    p, q = probabilities(teacher), probabilities(student)
    low, high = divergence(p, q, -1.0), divergence(p, q, 1.0)
    assert (low > high).any()
    assert (low < high).any()
    value = alpha_divergence(student, teacher, clip=math.inf)
    assert float(value) == pytest.approx(np.maximum(low, high).mean())


def test_importance_weights_are_clipped_at_five():
    # Two classes: q = (.9, .1), p = (.1, .9): (p/q)^-1 = (9, 1/9), of which 9 becomes 5.
    student = torch.tensor([[math.log(9.0), 0.0]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.0, math.log(9.0)]], dtype=torch.float64)
    value = alpha_divergence(student, teacher, alpha_min=-1.0, alpha_max=-1.0)
    assert value.item() == pytest.approx((0.9 * (5 - 1) + 0.1 * (1 / 9 - 1)) / 2)
    (gradient,) = torch.autograd.grad(value, student)
    # Σ q·w·∇log q with ∇_j log q_i = [i = j] - q_j
    weighted = np.array([0.9 * 5, 0.1 / 9])
    expected = weighted - weighted.sum() * np.array([0.9, 0.1])
    assert gradient[0].tolist() == pytest.approx(expected.tolist())


def test_a_hopeless_student_gives_finite_numbers():
    student = torch.tensor([[80.0, -80.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-80.0, 80.0, 0.0]])
    for function in DIVERGENCES.values():
        value = function(student, teacher)
        (gradient,) = torch.autograd.grad(value, student)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_descent_brings_the_student_to_the_teacher(name):
    teacher = make_logits(1).float()
    student = make_logits(0).float().requires_grad_()
    for _ in range(400):
        (gradient,) = torch.autograd.grad(DIVERGENCES[name](student, teacher), student)
        student = (student - 2.0 * gradient).detach().requires_grad_()
    gap = (student.softmax(1) - teacher.softmax(1)).abs().max()
    assert float(gap.detach()) < 0.02


def test_wrong_numbers_are_refused():
    logits = make_logits(0)
    with pytest.raises(InvalidInputError, match="temperature = 0"):
        kl_divergence(logits, logits, 0.0)
    with pytest.raises(InvalidInputError, match="clip = 0"):
        alpha_divergence(logits, logits, clip=0.0)


def test_trades_weighs_the_divergence_of_both_answers():
    natural, adversarial = make_logits(0), make_logits(1)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    p, q = probabilities(natural), probabilities(adversarial)
    expected = -np.log(p[np.arange(6), labels]).mean() + 6.0 * divergence(p, q, 1).mean()
    assert float(trades(natural, adversarial, labels, beta=6.0)) == pytest.approx(expected)
    natural.requires_grad_()
    adversarial.requires_grad_()
    trades(natural, adversarial, labels).backward()
    plain = make_logits(0).requires_grad_()
    cross_entropy(plain, labels).backward()
    # The natural answer is drawn to the adversarial one too.
    assert (natural.grad - plain.grad).abs().max() > 1e-3
    assert adversarial.grad.abs().max() > 1e-3


def test_rslad_is_five_parts_adversarial_and_one_natural():
    natural, adversarial, teacher = make_logits(0), make_logits(1), make_logits(2)
    p = probabilities(teacher)
    parts = [divergence(p, probabilities(x), 1).mean() for x in (adversarial, natural)]
    expected = 5 / 6 * parts[0] + 1 / 6 * parts[1]
    assert float(rslad(natural, adversarial, teacher)) == pytest.approx(expected)
    teacher.requires_grad_()
    natural.requires_grad_()
    rslad(natural, adversarial, teacher).backward()
    assert teacher.grad is None
    with pytest.raises(InvalidInputError, match="share"):
        rslad(natural, adversarial, teacher, share=1.2)
