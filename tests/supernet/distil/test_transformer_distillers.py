"""Distillers of Transformers' layers against their papers' formulas, written out in loops."""

import math

import numpy as np
import pytest
import torch

from scholarch.proxies.taps import Taps, TokenTaps
from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.distil.distiller import Pair, Shapes, Sides, TokenShapes
from scholarch.supernet.distil.distillers.lighthubert import spans
from scholarch.supernet.distil.factory import create_distiller

TEXTS, TOKENS, CLASSES = 3, 4, 5
LENGTHS = (4, 2, 3)
MASK = torch.arange(TOKENS) < torch.tensor(LENGTHS)[:, None]
#: Width, and heads of each layer, all of width 2: student, teacher.
STUDENT, TEACHER = (5, (3, 6)), (7, (2, 6, 4, 3))


def side(network, seed, *, masked=True, classes=CLASSES):
    width, heads = network
    rng = np.random.default_rng(seed)

    def drawn(*size):
        return torch.tensor(rng.normal(size=size), dtype=torch.float32)

    layers = tuple(drawn(TEXTS, TOKENS, width) for _ in range(1 + len(heads)))
    qkv = tuple(drawn(TEXTS, 3, a, TOKENS, 2) for a in heads)
    tokens = TokenTaps(layers, qkv, MASK if masked else None)
    final = drawn(TEXTS, width, 1, TOKENS)
    taps = Taps((final,), final, drawn(TEXTS, width), drawn(TEXTS, classes), None, tokens)
    return taps, Shapes.of(taps)


def both(name, *, student=STUDENT, teacher=TEACHER, masked=True, **options):
    (s, s_shapes), (t, t_shapes) = side(student, 1, masked=masked), side(teacher, 2, masked=masked)
    made = create_distiller(name, Sides(s_shapes, t_shapes, TEXTS, 0), **options)
    labels = torch.tensor([1, 0, 2])
    return made, Pair(s, t, labels, torch.arange(TEXTS), 0.5)


def value(made, pair):
    return float(made(pair).detach())


def as_relation_heads(qkv, text, which, heads):
    """Rows of each relation head of one text, heads side by side and cut again."""
    x = qkv[text, which].double().numpy()  # [A, N, d]
    wide = np.concatenate(list(x), axis=1)[: LENGTHS[text]]
    d = wide.shape[1] // heads
    return [wide[:, h * d : (h + 1) * d] for h in range(heads)]


def softmax(row):
    e = np.exp(row - row.max())
    return e / e.sum()


def real_pairs(text):
    return [(i, j) for i in range(LENGTHS[text]) for j in range(LENGTHS[text])]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize(("layer", "heads"), [(0, 6), (2, 12)])
def test_minilm(layer, heads):
    made, pair = both("minilm", layer=layer)
    assert made.heads == heads  # of widths 12 and 6 or 12
    s, t = pair.student.tokens.qkv[-1], pair.teacher.tokens.qkv[layer - 1]
    total = 0.0
    for which in range(3):
        rows = []
        for text in range(TEXTS):
            xs, xt = (as_relation_heads(x, text, which, heads) for x in (s, t))
            for i in range(LENGTHS[text]):
                for a, b in zip(xs, xt, strict=True):
                    q, p = (
                        softmax(np.array([x[i] @ y / math.sqrt(x.shape[1]) for y in x]))
                        for x in (a, b)
                    )
                    rows.append(kl(p, q))
        total += np.mean(rows)
    assert value(made, pair) == pytest.approx(total, rel=1e-4)


def test_minilm_takes_48_relation_heads_where_widths_allow():
    def heads(a, b):
        shapes = [Shapes((), (1, 1, 1), 1, 0, TokenShapes((), ((h, 64),))) for h in (a, b)]
        return create_distiller("minilm", Sides(*shapes, 1, 0)).heads

    assert heads(12, 6) == 48
    assert heads(12, 7) == 32


def test_autodistil():
    made, pair = both("autodistil", relation_heads=5)
    s, t = pair.student.tokens.qkv[-1], pair.teacher.tokens.qkv[-1]
    total = 0.0
    for which in range(3):
        errors = []
        for text in range(TEXTS):
            xs, xt = (as_relation_heads(x, text, which, 5) for x in (s, t))
            for a, b in zip(xs, xt, strict=True):
                for i, j in real_pairs(text):
                    own, other = (x[i] @ x[j] / math.sqrt(x.shape[1]) for x in (a, b))
                    errors.append((own - other) ** 2)
        total += np.mean(errors)
    assert value(made, pair) == pytest.approx(total, rel=1e-4)


def hidden(s, t, layer):
    """Mean square over real tokens, the student's through a linear layer."""
    weight = np.eye(s.shape[2]) if layer is None else layer.weight.detach().double().numpy()
    bias = 0.0 if layer is None else layer.bias.detach().double().numpy()
    s, t = s.double().numpy(), t.double().numpy()
    errors = [
        (weight @ s[text, i] + bias - t[text, i]) ** 2
        for text in range(TEXTS)
        for i in range(LENGTHS[text])
    ]
    return np.mean(errors)


def answers(pair):
    p, q = (x.logits.double().numpy() for x in (pair.teacher, pair.student))
    return np.mean([kl(softmax(a), softmax(b)) for a, b in zip(p, q, strict=True)])


def test_tinybert():
    made, pair = both("tinybert", embedding=2.0, hidden=0.5, attention=3.0, prediction=0.25)
    s, t = pair.student.tokens, pair.teacher.tokens
    total = 2.0 * hidden(s.layers[0], t.layers[0], made.embed) + 0.25 * answers(pair)
    # Layers 2 and 4 of the teacher; 3 heads, and 6 against 3: 12 and 6 wide, so 3.
    for i, j, heads in ((1, 2, 6), (2, 4, 3)):
        total += 0.5 * hidden(s.layers[i], t.layers[j], made.project)
        errors = []
        for text in range(TEXTS):
            for h in range(heads):
                q, k, r, m = (
                    as_relation_heads(x.qkv[at], text, which, heads)[h]
                    for x, at in ((s, i - 1), (t, j - 1))
                    for which in (0, 1)
                )
                for a, b in real_pairs(text):
                    own, other = (x[a] @ y[b] / math.sqrt(x.shape[1]) for x, y in ((q, k), (r, m)))
                    errors.append((own - other) ** 2)
        total += 3.0 * np.mean(errors)
    assert value(made, pair) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("width", [5, 7])
def test_dynabert(width):
    made, pair = both("dynabert", student=(width, STUDENT[1]))
    s, t = pair.student.tokens, pair.teacher.tokens
    learnt = (made.embed, made.project) if width == 5 else (None, None)
    assert len(list(made.parameters())) == (4 if width == 5 else 0)
    terms = [hidden(s.layers[0], t.layers[0], learnt[0])]
    terms += [hidden(s.layers[i], t.layers[j], learnt[1]) for i, j in ((1, 2), (2, 4))]
    assert value(made, pair) == pytest.approx(answers(pair) + 0.1 * sum(terms), rel=1e-4)


def test_answers_that_are_embeddings_are_compared_by_direction():
    made, pair = both("dynabert", hidden=0.0)
    embedded = Pair(pair.student, pair.teacher, pair.teacher.logits, pair.indices, 0.5)
    s, t = (x.logits.double().numpy() for x in (pair.student, pair.teacher))
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(s, t, strict=True)]
    assert value(made, embedded) == pytest.approx(1 - np.mean(cosines), rel=1e-4)


def target(pair, layers):
    found = np.zeros(pair.teacher.tokens.layers[0].shape)
    for x in pair.teacher.tokens.layers[-layers:]:
        x = x.double().numpy()
        found += (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 1e-5) / layers
    return found


@pytest.mark.parametrize(("given", "layers"), [({}, 4), ({"layers": 3}, 3)])
def test_lighthubert(given, layers):
    made, pair = both("lighthubert", **given)
    weight, bias = (p.detach().double().numpy() for p in (made.head.weight, made.head.bias))
    student, goal = pair.student.tokens.layers[-1].double().numpy(), target(pair, layers)
    errors = [
        np.abs(weight @ student[text, i] + bias - goal[text, i])
        for text in range(TEXTS)
        for i in range(LENGTHS[text])
    ]
    assert value(made, pair) == pytest.approx(np.mean(errors), rel=1e-4)


def test_tinyclip_of_one_tower():
    made, pair = both("tinyclip", temperature=0.5, weight=2.0)
    s, t = (
        [row / np.linalg.norm(row) for row in x.pooled.double().numpy()]
        for x in (pair.student, pair.teacher)
    )
    total = 0.0
    for i in range(TEXTS):
        others = [j for j in range(TEXTS) if j != i]
        q, p = (softmax(np.array([x[i] @ x[j] for j in others]) / 0.5) for x in (s, t))
        total += kl(p, q) / TEXTS
    assert value(made, pair) == pytest.approx(2.0 * total, rel=1e-4)


def test_tinyclip_of_two_towers():
    made, pair = both("tinyclip", student=(6, (3,)), teacher=(8, (4,)), towers=2, temperature=1.0)
    images, texts = [], []
    for x in (pair.student.pooled.double().numpy(), pair.teacher.pooled.double().numpy()):
        half = x.shape[1] // 2
        images.append([row / np.linalg.norm(row) for row in x[:, :half]])
        texts.append([row / np.linalg.norm(row) for row in x[:, half:]])
    total = 0.0
    for given, sought in ((images, texts), (texts, images)):
        for i in range(TEXTS):
            q, p = (
                softmax(np.array([given[k][i] @ sought[k][j] for j in range(TEXTS)]))
                for k in (0, 1)
            )
            total += 0.5 * kl(p, q) / TEXTS
    assert value(made, pair) == pytest.approx(total, rel=1e-4)


def test_cosine():
    made, pair = both("cosine", weight=2.0, similarity=3.0)
    s, t = (
        np.array([row / np.linalg.norm(row) for row in x.logits.double().numpy()])
        for x in (pair.student, pair.teacher)
    )
    cosines = [a @ b for a, b in zip(s, t, strict=True)]
    matrices = [(s[i] @ s[j] - t[i] @ t[j]) ** 2 for i in range(TEXTS) for j in range(TEXTS)]
    expected = 2.0 * (1 - np.mean(cosines)) + 3.0 * np.mean(matrices)
    assert value(made, pair) == pytest.approx(expected, rel=1e-4)


# ---------------------------------------------------------------------- what does not fit


def test_texts_of_other_lengths_are_refused():
    made, pair = both("minilm", masked=False)
    tokens = pair.teacher.tokens
    longer = TokenTaps(tokens.layers, tuple(torch.cat([x, x], dim=3) for x in tokens.qkv))
    taps = Taps((), pair.teacher.final_map, pair.teacher.pooled, None, None, longer)
    with pytest.raises(InvalidInputError, match="student has 4 tokens, the teacher 8; .* tokeni"):
        made(pair.__class__(pair.student, taps, pair.labels, pair.indices, 0.5))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("minilm", {"layer": 5}, "layer = 5 of the distiller; need one of the teacher's 4, or 0"),
        ("minilm", {"relation_heads": 0}, "relation_heads = 0 .*at least 1"),
        ("tinyclip", {"towers": 2}, "towers = 2 .*student has 5, the teacher 7"),
        ("tinyclip", {"towers": 3}, "towers = 3 of the distiller; need 1, or 2"),
        ("lighthubert", {"mask": 1.0}, "mask = 1.0 .*at least 0 and below 1"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(InvalidInputError, match=message):
        both(name, **options)


# ---------------------------------------------------------------------- spans


def test_spans_cover_about_their_share_and_no_padding():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([spans(400, 500, 0.65, 10, generator) for _ in range(200)])
    assert not drawn[:, 400:].any()
    # 26 spans of 10 among 391 starts: overlaps leave 1 - (1 - 26/391)^10 of the inner tokens.
    assert float(drawn[:, 10:390].double().mean()) == pytest.approx(0.497, abs=0.02)
    for row in drawn:
        runs = "".join("x" if one else " " for one in row.tolist()).split()
        assert all(len(run) >= 10 for run in runs)


@pytest.mark.parametrize("real", [1, 3, 10, 11])
def test_a_short_input_has_one_span(real):
    masked = spans(real, 12, 0.65, 10, torch.Generator().manual_seed(1))
    assert masked.sum() == min(real, 10)
    assert not masked[real:].any()
