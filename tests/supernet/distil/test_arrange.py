"""A teacher's weights in its students' order: nothing lost, and the right things first."""

import math

import numpy as np
import pytest
import torch

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.transformers import hubert, whisper  # noqa: F401 (register spaces)
from scholarch.searchspace.transformers.encoder import Encoder
from scholarch.searchspace.transformers.style import EncoderShape, LayerShape
from scholarch.supernet.distil.arrange import ORDERS, arrange, kept_layers, spread_order
from scholarch.supernet.distil.importance import measure_importance

OUTLINE = {"dim": 32, "depth": 3, "heads": 3, "head_dim": 8, "tenths": 20}
SMALL_TEXT = {"vocabulary": 60, "positions": 16, "resolution": 12}
SMALL_SOUND = {
    "channels": [8] * 3,
    "kernels": [10, 8, 4],
    "strides": [5, 8, 4],
    "positional": 8,
    "groups": 4,
    "resolution": 3200,
}
SPACES = {
    "vit-from-teacher": {"patch_size": 4, "resolution": 16},
    "bert-from-teacher": SMALL_TEXT,
    "hubert-from-teacher": SMALL_SOUND,
    "whisper-from-teacher": {"resolution": 3200},
}
#: Two of its layers have fewer heads or features than the space's largest.
LAYERS = (LayerShape(3, 64, 0), LayerShape(2, 64, 1), LayerShape(3, 40, 2))


def space_named(name, **given):
    style = {"layer_scale": True} if name.startswith("vit") else {}
    outline = {**OUTLINE, "style": style} | ({"unit": 8})
    return create_space(name, outline=outline, num_classes=5, **{**SPACES[name], **given})


def teacher_of(space, *, layers=LAYERS, classes=5, seed=3):
    """Random, norms and biases, too; some channels, heads and features louder than others."""
    shape = EncoderShape(32, layers)
    network = Encoder(space.stem, space.style, shape, num_classes=classes, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 1:
                noise = torch.rand(parameter.shape, generator=generator)
                parameter.add_(0.5 * noise)
    return network.eval()


def largest(space):
    return space.decode([[len(gene.values) - 1 for gene in space.genes]])[0]


def inputs_of(space, count=6):
    return space.example(count, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("how", ORDERS)
@pytest.mark.parametrize("name", SPACES)
def test_the_largest_network_is_the_teacher_in_any_order(name, how):
    space = space_named(name)
    teacher, elastic, inputs = teacher_of(space), space.supernet().eval(), inputs_of(space)
    before = {key: tensor.clone() for key, tensor in teacher.state_dict().items()}
    done = arrange(elastic, teacher, inputs, how)
    arch = largest(space)
    with torch.no_grad():
        expected, found = teacher(inputs), elastic(inputs, arch)
        assert done.head
        assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
        assert torch.equal(elastic.extract(arch)(inputs), found)
    assert (how == "prefix") == bool((done.channels == torch.arange(32)).all())
    assert all(torch.equal(before[key], x) for key, x in teacher.state_dict().items())
    groups = elastic.stem.interleave
    assert bool((done.channels % groups == torch.arange(32) % groups).all())


@pytest.mark.parametrize("name", ["bert-from-teacher", "vit-from-teacher"])
def test_a_student_is_the_teacher_without_what_matters_least(name):
    """By hand: the teacher with channels, heads and features removed, and a layer."""
    space = space_named(name)
    teacher, elastic, inputs = teacher_of(space), space.supernet().eval(), inputs_of(space)
    found = arrange(elastic, teacher, inputs).importance
    row = [len(gene.values) - 1 for gene in space.genes]
    dims, depths = space.choices.dims, space.choices.depths
    row[0], row[1] = dims.index(16), depths.index(2)
    middle = len(space.choices.tenths) // 2
    for i in range(3):
        row[2 + i] = middle  # fewer features
        row[5 + i] = space.choices.heads.index(2)
    arch = space.decode([row])[0]
    shape = space.shape_of(arch)
    kept = sorted(np.argsort(-found.layers.numpy(), kind="stable")[:2].tolist())
    assert [one.source for one in elastic.shape_of(arch).layers] == kept
    channels = torch.sort(found.channels, descending=True).indices[:16]
    assert float(found.channels[channels].min()) >= float(
        found.channels[[i for i in range(32) if i not in channels.tolist()]].max()
    )
    plain = elastic.extract(arch)
    for one, source, sizes in zip(plain.layers, kept, shape.layers, strict=True):
        given = teacher.layers[source]
        heads = torch.sort(found.heads[source], descending=True).indices[: sizes.heads]
        rows = torch.cat([torch.arange(8) + 8 * h for h in heads])
        for own, other in ((one.qkv.weight, given.qkv.weight), (one.qkv.bias, given.qkv.bias)):
            taken = other.unflatten(0, (3, -1))[:, rows]
            taken = taken if own.dim() == 1 else taken[..., channels]
            assert torch.equal(own.unflatten(0, (3, -1)), taken)
        assert torch.equal(one.proj.weight, given.proj.weight[channels][:, rows])
        features = torch.sort(found.features[source], descending=True).indices[: sizes.ffn]
        assert torch.equal(one.fc1.weight, given.fc1.weight[features][:, channels])
        assert torch.equal(one.fc2.weight, given.fc2.weight[channels][:, features])
        assert torch.equal(one.norm1.weight, given.norm1.weight[channels])
    assert torch.equal(plain.head.weight, teacher.head.weight[:, channels])


def test_importance_by_hand():
    space = space_named("bert-from-teacher")
    teacher, inputs = teacher_of(space), inputs_of(space)
    found = measure_importance(teacher, inputs)
    mask = teacher.stem.mask(inputs)
    assert not mask.all()
    channels = np.zeros(32)
    with torch.no_grad():
        x = teacher.stem(inputs)
        for i, layer in enumerate(teacher.layers):
            given, weighed = x, []
            hook = layer.proj.register_forward_pre_hook(
                lambda _m, a, seen=weighed: seen.append(a[0])
            )
            x = layer(x, mask)
            hook.remove()
            middle = layer.norm1(given + layer.proj(weighed[0]))
            inner = torch.nn.functional.gelu(layer.fc1(middle))
            for text in range(len(inputs)):
                n = int(mask[text].sum())
                if text == 0:
                    heads, inside = np.zeros(layer.heads), np.zeros(inner.shape[2])
                    norms, angles = [np.zeros(32), np.zeros(32)], 0.0
                for a in range(layer.heads):
                    part = weighed[0][text, :n, 8 * a : 8 * a + 8].double().numpy()
                    heads[a] += np.mean([math.sqrt((row**2).sum()) for row in part]) ** 2
                inside += np.mean(np.abs(inner[text, :n].double().numpy()), axis=0) ** 2
                for total, of in zip(norms, (middle, x), strict=True):
                    total += np.mean(np.abs(of[text, :n].double().numpy()), axis=0) ** 2
                cosines = torch.cosine_similarity(given[text, :n], x[text, :n], dim=1)
                angles += float((1 - cosines).mean()) / len(inputs)
            channels += sum(np.sqrt(total) for total in norms)
            np.testing.assert_allclose(found.heads[i], np.sqrt(heads), rtol=1e-5)
            np.testing.assert_allclose(found.features[i], np.sqrt(inside), rtol=1e-5)
            assert float(found.layers[i]) == pytest.approx(angles, rel=1e-4)
    np.testing.assert_allclose(found.channels, channels, rtol=1e-5)


def test_an_embedding_teacher_is_led_to_its_own_output():
    space = create_space("bert-from-teacher", outline=OUTLINE, num_classes=32, **SMALL_TEXT)
    teacher, elastic, inputs = (
        teacher_of(space, classes=0),
        space.supernet().eval(),
        inputs_of(space),
    )
    assert arrange(elastic, teacher, inputs).head
    with torch.no_grad():
        assert torch.allclose(elastic(inputs, largest(space)), teacher(inputs), atol=1e-5)


def test_other_classes_leave_the_classifier_as_it_was():
    space = space_named("bert-from-teacher")
    elastic = space.supernet()
    before = elastic.classifier.weight.clone()
    assert not arrange(elastic, teacher_of(space, classes=7), how="prefix").head
    assert torch.equal(elastic.classifier.weight, before)


# ---------------------------------------------------------------------- orders


@pytest.mark.parametrize("count", [1, 2, 7, 12, 64, 100])
def test_spread_prefixes_are_evenly_spaced(count):
    order = spread_order(count).tolist()
    assert sorted(order) == list(range(count))
    for few in range(1, count + 1):
        gaps = np.diff([*sorted(order[:few]), count])
        assert gaps.max() <= 4 * gaps.min() or gaps.max() <= 2 * count / few
    if count == 64:
        assert sorted(order[:16]) == list(range(0, 64, 4))


def test_layers_that_are_kept():
    scores = torch.tensor([0.1, 0.4, 0.2, 0.3])
    assert kept_layers("importance", 4, scores)[2] == (1, 3)
    assert kept_layers("prefix", 4)[3] == (0, 1, 2)
    assert kept_layers("even", 12)[4] == (2, 5, 8, 11)
    # SWS's child of 12 layers takes 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4.
    child = kept_layers("stages", 15)[12]
    assert [sorted({*child}).index(layer) for layer in child] == [
        0,
        0,
        0,
        1,
        1,
        1,
        2,
        2,
        3,
        3,
        4,
        4,
    ]
    assert all(kept_layers(how, 4, scores)[4] == (0, 1, 2, 3) for how in ORDERS)


# ---------------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"how": "best"}, "how = 'best'; need one of importance, even, prefix, stages"),
        ({}, "importance is measured on inputs; give some"),
        ({"how": "even", "layers": LAYERS[:2]}, "largest network: it has 2 layers, not 3; make"),
        (
            {"how": "even", "layers": (LayerShape(4, 64, 0), *LAYERS[1:])},
            "4 heads and 64 features in layer 1, more than 3 and 64",
        ),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    space = space_named("bert-from-teacher")
    given = dict(given)
    teacher = teacher_of(space, layers=given.pop("layers", LAYERS))
    with pytest.raises(InvalidInputError, match=message):
        arrange(space.supernet(), teacher, **given)


def test_a_stem_of_other_inputs_is_refused():
    space, other = space_named("bert-from-teacher"), space_named("bert-from-teacher", vocabulary=50)
    with pytest.raises(
        InvalidInputError, match=r"stem.words.weight .* is \[60, 32\], the teacher's"
    ):
        arrange(space.supernet(), teacher_of(other), how="even")
