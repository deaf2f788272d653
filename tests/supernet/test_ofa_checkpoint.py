"""Once-for-all checkpoints: logits after loading, against a forward pass written from the paper.

The state dicts are built by the names and shapes of the released networks, and the forward
passes below are this file's own: nothing of the elastic networks is used to check them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from scholarch.cli import main
from scholarch.searchspace.elastic import ElasticNetwork
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace
from scholarch.supernet.ofa_checkpoint import convert_ofa_state, load_ofa_checkpoint
from scholarch.supernet.pretrained import load_supernet

State = dict[str, Tensor]

WIDTH = 0.25
#: Narrower, our fixed block would have as many channels in as out and be given a shortcut.
PROXYLESS_WIDTH = 0.5
CLASSES = 7


def rounded(v: float) -> int:
    new = max(8, int(v + 4) // 8 * 8)
    return new + 8 if new < 0.9 * v else new


class Family:
    """Numbers of a MobileNet family as once-for-all's code lists them."""

    def __init__(self, kind: str, width: float = WIDTH) -> None:
        v3 = kind == "v3"
        base = [16, 16, 24, 40, 80, 112, 160] if v3 else [32, 16, 24, 40, 80, 96, 192, 320]
        self.v3 = v3
        self.widths = [rounded(w * width) for w in base]
        self.head = rounded((960 if v3 else 1280) * width)
        self.mix = rounded(1280 * width) if v3 else 0
        self.strides = [2, 2, 2, 1, 2] if v3 else [2, 2, 2, 1, 2, 1]
        self.se = [False, True, False, True, True] if v3 else [False] * 6
        self.acts = ["relu", "relu", "hs", "hs", "hs"] if v3 else ["relu6"] * 6
        self.depths = [4] * 5 if v3 else [4] * 5 + [1]
        self.eps = 1e-5 if v3 else 1e-3


class Maker:
    """A state dict of random numbers under given names."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.state: State = {}

    def normal(self, name: str, *shape: int, std: float = 0.1) -> None:
        self.state[name] = std * torch.randn(*shape, generator=self.generator)

    def conv(self, name: str, c_out: int, c_in: int, kernel: int = 1) -> None:
        std = (2 / (c_in * kernel**2)) ** 0.5
        self.normal(f"{name}.weight", c_out, c_in, kernel, kernel, std=std)

    def bn(self, name: str, channels: int) -> None:
        for part in ("weight", "running_var"):
            draw = torch.rand(channels, generator=self.generator)
            self.state[f"{name}.{part}"] = 0.5 + draw
        self.normal(f"{name}.bias", channels)
        self.normal(f"{name}.running_mean", channels)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(5)

    def linear(self, name: str, classes: int, features: int) -> None:
        self.normal(f"{name}.weight", classes, features)
        self.normal(f"{name}.bias", classes)


def mobile_state(kind: str, *, width: float = WIDTH, transforms: bool = True) -> State:
    """Names of the latest release: ``conv`` for a block, elastic layers nested."""
    family, make = Family(kind, width), Maker()
    stem, first, *widths = family.widths
    make.conv("first_conv.conv", stem, 3, 3)
    make.bn("first_conv.bn", stem)
    make.conv("blocks.0.conv.depth_conv.conv", stem, 1, 3)
    make.bn("blocks.0.conv.depth_conv.bn", stem)
    make.conv("blocks.0.conv.point_linear.conv", first, stem)
    make.bn("blocks.0.conv.point_linear.bn", first)
    number, previous = 0, first
    for width_out, depth, gated in zip(widths, family.depths, family.se, strict=True):
        for _ in range(depth):
            number += 1
            at, mid = f"blocks.{number}.conv", 6 * previous
            make.conv(f"{at}.inverted_bottleneck.conv.conv", mid, previous)
            make.bn(f"{at}.inverted_bottleneck.bn.bn", mid)
            make.conv(f"{at}.depth_conv.conv.conv", mid, 1, 7)
            if transforms:
                for name, side in (("5to3", 9), ("7to5", 25)):
                    make.normal(f"{at}.depth_conv.conv.{name}_matrix", side, side, std=0.1)
                    make.state[f"{at}.depth_conv.conv.{name}_matrix"] += torch.eye(side)
            make.bn(f"{at}.depth_conv.bn.bn", mid)
            if gated:
                squeezed = rounded(mid // 4)
                make.conv(f"{at}.depth_conv.se.fc.reduce", squeezed, mid)
                make.normal(f"{at}.depth_conv.se.fc.reduce.bias", squeezed)
                make.conv(f"{at}.depth_conv.se.fc.expand", mid, squeezed)
                make.normal(f"{at}.depth_conv.se.fc.expand.bias", mid)
            make.conv(f"{at}.point_linear.conv.conv", width_out, mid)
            make.bn(f"{at}.point_linear.bn.bn", width_out)
            previous = width_out
    last = "final_expand_layer" if family.v3 else "feature_mix_layer"
    make.conv(f"{last}.conv", family.head, previous)
    make.bn(f"{last}.bn", family.head)
    if family.v3:
        make.conv("feature_mix_layer.conv", family.mix, family.head)
    make.linear("classifier.linear", CLASSES, family.mix or family.head)
    return make.state


def doubled(state: State) -> State:
    return {name: value.double() for name, value in state.items()}


def norm(x: Tensor, s: State, name: str, eps: float) -> Tensor:
    c = x.shape[1]
    mean, var, weight, bias = (
        s[f"{name}.{part}"][:c].view(1, c, 1, 1)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + eps).sqrt() * weight + bias


def act(x: Tensor, kind: str) -> Tensor:
    if kind == "hs":
        return x * (x + 3).clamp(0, 6) / 6
    return x.clamp(min=0) if kind == "relu" else x.clamp(0, 6)


def depthwise(s: State, name: str, channels: int, kernel: int) -> Tensor:
    weight, side = s[f"{name}.conv.weight"][:channels], 7
    while side > kernel:
        weight, side = weight[:, :, 1:-1, 1:-1], side - 2
        if (matrix := s.get(f"{name}.{side + 2}to{side}_matrix")) is not None:
            weight = functional.linear(weight.flatten(1), matrix).view(channels, 1, side, side)
    return weight


def mobile_forward(kind: str, s: State, x: Tensor, arch: dict[str, list[int]]) -> Tensor:
    """Once-for-all's forward pass; ``arch`` has their ``ks``, ``e`` and ``d``, one a block."""
    s, family = doubled(s), Family(kind, WIDTH if kind == "v3" else PROXYLESS_WIDTH)
    eps, outer = family.eps, "hs" if family.v3 else "relu6"
    x = functional.conv2d(x, s["first_conv.conv.weight"], stride=2, padding=1)
    x = act(norm(x, s, "first_conv.bn", eps), outer)
    skip, at = x, "blocks.0.conv"
    x = functional.conv2d(x, s[f"{at}.depth_conv.conv.weight"], padding=1, groups=family.widths[0])
    x = act(norm(x, s, f"{at}.depth_conv.bn", eps), "relu" if family.v3 else "relu6")
    x = functional.conv2d(x, s[f"{at}.point_linear.conv.weight"])
    x = norm(x, s, f"{at}.point_linear.bn", eps)
    if family.v3:  # as many channels in as out
        x = x + skip
    number = 0
    for i, most in enumerate(family.depths):
        for j in range(most):
            number += 1
            if j >= arch["d"][i]:
                continue
            at, kernel = f"blocks.{number}.conv", arch["ks"][number - 1]
            skip, mid = x, rounded(x.shape[1] * arch["e"][number - 1])
            stride = family.strides[i] if j == 0 else 1
            x = functional.conv2d(x, s[f"{at}.inverted_bottleneck.conv.conv.weight"][:mid])
            x = act(norm(x, s, f"{at}.inverted_bottleneck.bn.bn", eps), family.acts[i])
            weight = depthwise(s, f"{at}.depth_conv.conv", mid, kernel)
            x = functional.conv2d(x, weight, stride=stride, padding=kernel // 2, groups=mid)
            x = act(norm(x, s, f"{at}.depth_conv.bn.bn", eps), family.acts[i])
            if family.se[i]:
                fc, few = f"{at}.depth_conv.se.fc", rounded(mid // 4)
                y = x.mean((2, 3), keepdim=True)
                weight, bias = s[f"{fc}.reduce.weight"][:few, :mid], s[f"{fc}.reduce.bias"][:few]
                y = functional.conv2d(y, weight, bias).clamp(min=0)
                weight, bias = s[f"{fc}.expand.weight"][:mid, :few], s[f"{fc}.expand.bias"][:mid]
                x = x * (functional.conv2d(y, weight, bias) + 3).clamp(0, 6) / 6
            x = functional.conv2d(x, s[f"{at}.point_linear.conv.conv.weight"][:, :mid])
            x = norm(x, s, f"{at}.point_linear.bn.bn", eps)
            if stride == 1 and skip.shape[1] == x.shape[1]:
                x = x + skip
    last = "final_expand_layer" if family.v3 else "feature_mix_layer"
    x = functional.conv2d(x, s[f"{last}.conv.weight"])
    x = act(norm(x, s, f"{last}.bn", eps), outer).mean((2, 3), keepdim=True)
    if family.v3:
        x = act(functional.conv2d(x, s["feature_mix_layer.conv.weight"]), "hs")
    return functional.linear(
        x.flatten(1), s["classifier.linear.weight"], s["classifier.linear.bias"]
    )


# ---------------------------------------------------------------------- resnets

FACTORS = (0.65, 0.8, 1.0)
MOST = (4, 4, 6, 4)


def resnet_channels(width: float) -> tuple[list[int], list[list[int]]]:
    stem = [rounded(64 * width * f) for f in FACTORS]
    return stem, [[rounded(c * width * f) for f in FACTORS] for c in (256, 512, 1024, 2048)]


def resnet_state(width: float = WIDTH) -> State:
    make = Maker(1)
    stem, widths = resnet_channels(width)
    inner = rounded(stem[2] // 2)
    for name, c_in, c_out in (
        ("input_stem.0", 3, inner),
        ("input_stem.1.conv", inner, inner),
        ("input_stem.2", inner, stem[2]),
    ):
        make.conv(f"{name}.conv.conv", c_out, c_in, 3)
        make.bn(f"{name}.bn.bn", c_out)
    number, previous = 0, stem[2]
    for depth, (_, _, wide) in zip(MOST, widths, strict=True):
        for j in range(depth):
            middle, at = rounded(round(wide * 0.35)), f"blocks.{number}"
            layers = [("conv1", previous, middle, 1), ("conv2", middle, middle, 3)]
            layers.append(("conv3", middle, wide, 1))
            if j == 0:
                layers.append(("downsample", previous, wide, 1))
            for layer, c_in, c_out, kernel in layers:
                make.conv(f"{at}.{layer}.conv.conv", c_out, c_in, kernel)
                make.bn(f"{at}.{layer}.bn.bn", c_out)
            number, previous = number + 1, wide
    make.linear("classifier.linear.linear", CLASSES, previous)
    return make.state


def resnet_forward(s: State, x: Tensor, arch: dict[str, list[Any]]) -> Tensor:
    s, (stem, widths) = doubled(s), resnet_channels(WIDTH)

    def layer(x: Tensor, name: str, c_out: int, stride: int = 1) -> Tensor:
        weight = s[f"{name}.conv.conv.weight"][:c_out, : x.shape[1]]
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        return norm(x, s, f"{name}.bn.bn", 1e-5)

    inner = rounded(stem[arch["w"][0]] // 2)
    x = layer(x, "input_stem.0", inner, 2).clamp(min=0)
    if arch["d"][0] == 2:
        x = layer(x, "input_stem.1.conv", inner).clamp(min=0) + x
    x = layer(x, "input_stem.2", stem[arch["w"][1]]).clamp(min=0)
    x = functional.max_pool2d(x, 3, 2, 1)
    number = 0
    for i, (most, base, stride) in enumerate(zip(MOST, (2, 2, 4, 2), (1, 2, 2, 2), strict=True)):
        wide = widths[i][arch["w"][2 + i]]
        for j in range(most):
            if j < base + arch["d"][1 + i]:
                at, middle = f"blocks.{number}", rounded(round(wide * arch["e"][number]))
                y = layer(x, f"{at}.conv1", middle).clamp(min=0)
                y = layer(y, f"{at}.conv2", middle, stride if j == 0 else 1).clamp(min=0)
                y = layer(y, f"{at}.conv3", wide)
                if j == 0:
                    if stride > 1:
                        x = functional.avg_pool2d(x, stride, stride, ceil_mode=True)
                    x = layer(x, f"{at}.downsample", wide)
                x = (y + x).clamp(min=0)
            number += 1
    weight = s["classifier.linear.linear.weight"][:, : x.shape[1]]
    return functional.linear(x.mean((2, 3)), weight, s["classifier.linear.linear.bias"])


# ---------------------------------------------------------------------- the tests


def space_of(name: str, **options: Any) -> SearchSpace:
    return create_space(name, **{"num_classes": CLASSES, "width_mult": WIDTH, **options})


def drawn(space: SearchSpace, n: int = 5) -> list[dict[str, Any]]:
    """The native dictionaries of the first, the last and some random rows."""
    counts = torch.tensor([len(gene.values) - 1 for gene in space.genes]).numpy()
    archs = [*space.decode(counts[None]), *space.decode(0 * counts[None]), *space.sample(n, 3)]
    return [json.loads(str(arch)) for arch in archs]


def images(side: int = 65) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(9))


def assert_same(
    space: SearchSpace, net: ElasticNetwork, forward: Callable[[Tensor, dict[str, Any]], Tensor]
) -> None:
    # In double precision, where rounding cannot hide a difference: forward passes of random
    # weights reach outputs from 0.4 to 2000.
    net.double().eval()
    seen, x = [], images().double()
    with torch.no_grad():
        for arch in drawn(space):
            expected = forward(x, arch)
            found = net(x, space.parse(json.dumps(arch)))
            assert float((found - expected).abs().max() / expected.abs().max()) < 1e-9
            seen.append(expected)
    # Different architectures are told apart, by far more than the tolerance.
    assert all(float((seen[0] - other).abs().max()) > 1e-2 for other in seen[1:])


@pytest.fixture(scope="module")
def v3() -> State:
    return mobile_state("v3")


@pytest.mark.parametrize(
    ("kind", "name", "width"),
    [("v3", "mobilenetv3", WIDTH), ("proxyless", "proxylessnas", PROXYLESS_WIDTH)],
)
def test_mobilenets(kind: str, name: str, width: float, tmp_path: Path) -> None:
    state, space = mobile_state(kind, width=width), space_of(name, width_mult=width)
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "net.pth")
    net = space.supernet()
    report = load_ofa_checkpoint(net, tmp_path / "net.pth")
    assert report.transforms
    assert report.unused == ()
    assert report.tensors == len(net.state_dict())
    assert_same(space, net, lambda x, arch: mobile_forward(kind, state, x, arch))


def test_without_matrices_kernels_are_centre_crops() -> None:
    state, space = mobile_state("v3", transforms=False), space_of("mobilenetv3")
    net = space.supernet()
    converted, report = convert_ofa_state(net, state)
    assert not report.transforms
    net.load_state_dict(converted)
    assert_same(space, net, lambda x, arch: mobile_forward("v3", state, x, arch))


@pytest.mark.parametrize("transforms", [True, False])
def test_compofa_of_fixed_kernels_is_stored_with_the_largest(transforms: bool) -> None:
    state, space = mobile_state("v3", transforms=transforms), space_of("compofa")
    net = space.supernet().double()
    converted, report = convert_ofa_state(net, doubled(state))
    net.load_state_dict(converted)
    assert_same(space, net, lambda x, arch: mobile_forward("v3", state, x, arch))
    # Stages of kernel 5 have no use for the matrix that leads to 3.
    assert len(report.unused) == (8 if transforms else 0)
    assert all(name.endswith("5to3_matrix") for name in report.unused)


def test_other_strides_take_the_same_weights(v3: State) -> None:
    converted, _ = convert_ofa_state(space_of("mobilenetv3-cifar").supernet(), v3)
    assert converted["stages.0.0.expand.conv.weight"].shape[0] == 6 * 8


def test_resnet50(tmp_path: Path) -> None:
    state, space = resnet_state(), space_of("resnet50")
    save_file(state, tmp_path / "net.safetensors")
    net = space.supernet()
    assert load_ofa_checkpoint(net, tmp_path / "net.safetensors").layout == "OFAResNets"
    assert_same(space, net, lambda x, arch: resnet_forward(state, x, arch))


def flat(name: str) -> str:
    return re.sub(r"\.(bn|conv|linear)\.\1\.", r".\1.", name)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: re.sub(r"^(blocks\.\d+)\.conv\.", r"\1.mobile_inverted_conv.", name),
        lambda name: f"module.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: name.replace("classifier.linear.", "classifier.linear.linear."),
        lambda name: name if name.endswith("matrix") else flat(name),
    ],
    ids=["old blocks", "data parallel", "compiled", "nested classifier", "plain layers"],
)
@pytest.mark.parametrize("wrapper", ["state_dict", "state_dict_best", None])
def test_releases_differ_in_names_alone(
    v3: State, rename: Callable[[str], str], wrapper: str | None, tmp_path: Path
) -> None:
    net = space_of("mobilenetv3").supernet()
    expected, _ = convert_ofa_state(net, v3)
    renamed = {rename(name): value for name, value in v3.items()}
    assert set(renamed) != set(v3)
    torch.save({wrapper: renamed} if wrapper else renamed, tmp_path / "net")
    load_ofa_checkpoint(net, tmp_path / "net")
    own = net.state_dict()
    assert all(torch.equal(own[name], value) for name, value in expected.items())


def test_own_classifier_can_be_kept(v3: State) -> None:
    net = space_of("mobilenetv3", num_classes=3).supernet()
    converted, report = convert_ofa_state(net, v3, keep_classifier=True)
    assert set(net.state_dict()) - set(converted) == {"classifier.weight", "classifier.bias"}
    assert report.unused == ("classifier.linear.bias", "classifier.linear.weight")


def without(state: State, part: str) -> State:
    return {name: value for name, value in state.items() if part not in name}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda s: without(s, "blocks.20."), {}, r"lacks \d+ of \d+ tensors, first 'blocks.20."),
        (lambda s: without(s, "blocks.3.conv.depth_conv.conv.7to5"), {}, "7to5_matrix"),
        (lambda s: s | {"extra.weight": torch.ones(1)}, {}, "1 tensors without a place.*extra"),
        (lambda s: s, {"width_mult": 0.5}, "width multiplier of 0.25.*width_mult=0.25"),
        (lambda s: s, {"num_classes": 10}, "7 classes apart.*10.*num_classes=7"),
        (lambda s: s, {"in_channels": 1}, r"'first_conv.conv.weight' is \[8, 3, 3, 3\]"),
        (lambda s: resnet_state(), {}, "holds an OFAResNets.*'resnet50'"),
        (lambda s: {"fc.weight": torch.ones(1)}, {}, "no once-for-all network"),
        (
            lambda s: s | {"blocks.1.conv.depth_conv.conv.weight": torch.ones(1)},
            {},
            "two tensors for 'blocks.1.conv.depth_conv.conv.weight'",
        ),
        (
            lambda s: s | {"classifier.linear.bias": torch.full((CLASSES,), float("nan"))},
            {},
            "not finite",
        ),
    ],
)
def test_misfits_are_refused_and_change_nothing(
    v3: State,
    change: Callable[[State], State],
    options: dict[str, Any],
    message: str,
    tmp_path: Path,
) -> None:
    net = space_of("mobilenetv3", **options).supernet()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.save({"state_dict": change(v3)}, tmp_path / "net.pth")
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_ofa_checkpoint(net, tmp_path / "net.pth")
    assert "\n" not in str(caught.value)
    after = net.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_small_kernels_do_not_fit_an_elastic_network(v3: State) -> None:
    fixed = without(v3, "_matrix")
    name = "blocks.1.conv.depth_conv.conv.conv.weight"
    fixed[name] = fixed[name][..., 2:-2, 2:-2]
    with pytest.raises(InvalidInputError, match=r"3, 3\], the network needs .*7, 7\].*kernels"):
        convert_ofa_state(space_of("mobilenetv3").supernet(), fixed)


def test_other_networks_are_refused(v3: State) -> None:
    net = create_space("nasbench201").supernet()
    with pytest.raises(InvalidInputError, match="does not fit.*mobilenetv3"):
        convert_ofa_state(net, v3)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("ran",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or no checkpoint"),
        (b"hello there", "no checkpoint"),
        (None, "does not exist"),
    ],
)
def test_what_is_no_checkpoint(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "net").write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        load_ofa_checkpoint(space_of("mobilenetv3").supernet(), tmp_path / "net")


def test_no_code_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Trap()}, tmp_path / "net")
    with pytest.raises(InvalidInputError, match="could run code"):
        load_ofa_checkpoint(space_of("mobilenetv3").supernet(), tmp_path / "net")
    assert capsys.readouterr().out == ""
    torch.save({"epoch": 3}, tmp_path / "net")
    with pytest.raises(InvalidInputError, match="holds no state dict"):
        load_ofa_checkpoint(space_of("mobilenetv3").supernet(), tmp_path / "net")


def test_a_checkpoint_becomes_a_supernet_to_be_searched(
    v3: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "ofa.pth", tmp_path / "supernet"
    torch.save({"state_dict": v3}, file)
    options = ["--classes", str(CLASSES), "--width-mult", str(WIDTH), "--option", "resolution=64"]
    command = ["import-ofa", str(file), "--out", str(out), *options]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["imported"] == {"file": "ofa.pth", "layout": "OFAMobileNetV3"}
    found = load_supernet(out)
    assert found.space.spec() == told["space"]
    made = space_of("mobilenetv3", width_mult=WIDTH, resolution=64)
    expected = made.supernet()
    load_ofa_checkpoint(expected, file)
    arch = made.sample(1, 0)[0]
    x = images(64)
    assert torch.equal(found.network(x, arch), expected.eval()(x, arch))
    assert main([*command, "--width-mult", "1.0"]) == 2
    assert "width" in capsys.readouterr().err
