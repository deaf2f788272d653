from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from scholarch.proxies.layouts import map_shape
from scholarch.proxies.recorder import watch
from scholarch.proxies.tap_finder import TapPlan, find_taps
from scholarch.searchspace.convnets.resnet_cifar_net import CifarResNet
from scholarch.searchspace.errors import InvalidInputError, UnknownNameError
from scholarch.teachers.timm_import import import_timm


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval()


def images(side: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(0))


# name, options, side, classifier, final, channels of the final map, stages
TIMM: list[tuple[str, dict[str, Any], int, str, str, int, int]] = [
    ("resnet18", {}, 64, "fc", "layer4", 512, 5),
    ("resnet50", {}, 64, "fc", "layer4", 2048, 5),
    ("efficientnet_b0", {}, 64, "classifier", "bn2", 1280, 5),
    ("mobilenetv3_small_100", {}, 64, "classifier", "blocks", 576, 5),
    ("convnext_atto", {}, 64, "head.fc", "stages", 320, 4),
    ("regnetx_002", {}, 64, "head.fc", "s4", 368, 5),
    ("vit_tiny_patch16_224", {"img_size": 64}, 64, "head", "norm", 192, 1),
    ("deit_tiny_patch16_224", {"img_size": 64}, 64, "head", "norm", 192, 1),
    ("deit_tiny_distilled_patch16_224", {"img_size": 64}, 64, "head_dist", "norm", 192, 1),
    ("swin_tiny_patch4_window7_224", {"img_size": 64}, 64, "head.fc", "norm", 768, 4),
    ("swinv2_tiny_window8_256", {"img_size": 64}, 64, "head.fc", "norm", 768, 4),
    ("mvitv2_tiny", {"img_size": 64}, 64, "head.fc", "norm", 768, 4),
    ("levit_128s", {}, 224, "head_dist.linear", "stages", 384, 6),
    ("halonet26t", {}, 256, "head.fc", "stages", 2048, 5),
    ("densenet121", {}, 64, "classifier", "features", 1024, 5),
    # The classifier of VGG reads 4096 features that are no map's channels.
    ("vgg11_bn", {}, 64, "head.fc", "features", 512, 6),
]


@pytest.mark.parametrize(
    ("name", "options", "side", "classifier", "final", "channels", "stages"),
    TIMM,
    ids=[row[0] for row in TIMM],
)
def test_timm_networks(
    name: str,
    options: dict[str, Any],
    side: int,
    classifier: str,
    final: str,
    channels: int,
    stages: int,
) -> None:
    network = seeded(lambda: import_timm().create_model(name, pretrained=False, **options))
    plan = find_taps(network, images(side))
    assert (plan.classifier, plan.final, len(plan.stages)) == (classifier, final, stages)
    outputs, inputs = watch(
        network, images(side), [plan.final, *plan.stages, classifier], [classifier]
    )
    shapes = [map_shape(outputs[stage].shape, (side, side)) for stage in plan.stages]
    areas = [shape[1] * shape[2] for shape in shapes if shape is not None]
    assert len(areas) == stages
    assert areas == sorted(set(areas), reverse=True), "a stage a resolution, shallow to deep"
    last = map_shape(outputs[plan.final].shape, (side, side))
    assert last is not None
    assert last[0] == channels
    assert last[1] * last[2] > 1
    assert inputs[classifier].shape[0] == 2


def test_stages_of_a_resnet_are_what_its_authors_call_them() -> None:
    network = seeded(lambda: import_timm().create_model("resnet18", pretrained=False))
    assert find_taps(network, images(64)).stages == (
        "act1",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
    )


def test_cifar_resnet() -> None:
    plan = find_taps(CifarResNet((1, 1, 1)).eval(), images(32))
    assert plan == TapPlan("layer3", "fc", ("layer1", "layer2", "layer3"))


def toy() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, 1, 1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


def test_a_toy_sequential_is_tapped_after_its_activations() -> None:
    network = seeded(toy)
    plan = find_taps(network, images(16))
    assert plan == TapPlan("4", "7", ("1", "4"))
    outputs, _ = watch(network, images(16), ["3", "4"])
    # The ReLU after it works in place; what was seen before is kept as it was.
    assert outputs["3"].min() < 0
    assert torch.equal(outputs["3"].relu(), outputs["4"])


class Functional(nn.Module):
    """The style of PyTorch's tutorials: activations and pooling as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 20)
        self.fc2 = nn.Linear(20, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def test_functional_code() -> None:
    network = seeded(Functional)
    plan = find_taps(network, images(32))
    assert plan.classifier == "fc2"
    assert plan.stages == (":relu#0", ":max_pool2d#0", ":relu#1", ":max_pool2d#1")
    assert plan.final == ":max_pool2d#1"
    outputs, _ = watch(network, images(32), ["conv2", ":relu#1", ":max_pool2d#1"])
    assert torch.equal(outputs[":relu#1"], outputs["conv2"].relu())
    assert torch.equal(outputs[":max_pool2d#1"], functional.max_pool2d(outputs["conv2"].relu(), 2))


class Shared(nn.Module):
    """One ReLU and one pooling layer, each used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 9, 3, 1, 1)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)
        self.fc = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv1(x)))
        return self.fc(self.relu(self.conv2(x)).mean((2, 3)))


def test_modules_called_twice() -> None:
    network = seeded(Shared)
    plan = find_taps(network, images(16))
    assert plan == TapPlan("relu#1", "fc", ("relu#0", "relu#1"))
    named = find_taps(network, images(16), {"final": "relu"})
    assert named.final == "relu"
    outputs, _ = watch(network, images(16), ["relu", "relu#0", "relu#1"])
    assert torch.equal(outputs["relu"], outputs["relu#1"])
    assert outputs["relu#0"].shape == (2, 4, 16, 16)


class Wrapped(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.network = CifarResNet((1, 1, 1), num_classes=6)
        self.how = how

    def forward(self, x: Tensor) -> Any:
        logits = self.network(x)
        features = x.mean((2, 3))
        return {
            "softmax": logits.softmax(1),
            "features first": ([x, x], features, logits),
            "logits first": [logits, features],
            "mapping": {"features": features, "logits": logits},
        }[self.how]


@pytest.mark.parametrize("how", ["softmax", "features first", "logits first", "mapping"])
def test_wrapped_networks(how: str) -> None:
    plan = find_taps(Wrapped(how).eval(), images(32))
    prefix = "network."
    assert plan.classifier == f"{prefix}fc"
    assert plan.final == f"{prefix}layer3"
    assert plan.stages == tuple(f"{prefix}layer{i}" for i in (1, 2, 3))


def test_a_backbone_that_gives_a_map_is_looked_into() -> None:
    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = CifarResNet((1, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            x = functional.relu(self.net.bn1(self.net.conv1(x)))
            return self.net.layer3(self.net.layer2(self.net.layer1(x)))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.fc = Backbone(), nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.backbone(x * 2).mean((2, 3)))

    plan = find_taps(seeded(Net), images(32))
    assert plan.final == "backbone"
    assert plan.stages == ("backbone.net.layer1", "backbone.net.layer2", "backbone")


def test_without_a_classifier() -> None:
    network = seeded(lambda: toy()[:5])
    assert find_taps(network, images(16)) == TapPlan("4", None, ("1", "4"))
    headless = seeded(lambda: import_timm().create_model("seresnet18", num_classes=0))
    # Squeeze-and-excitation's last convolution has as many outputs as the network.
    assert find_taps(headless, images(64)).classifier is None


def test_a_convolution_as_classifier() -> None:
    trunk = seeded(lambda: toy()[:5])
    on_vector = seeded(
        lambda: nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 5, 1), nn.Flatten())
    )
    assert find_taps(on_vector, images(16)).classifier == "2"
    # SqueezeNet's order: convolution, activation, pooling.
    on_map = seeded(
        lambda: nn.Sequential(
            trunk, nn.Conv2d(12, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
    )
    plan = find_taps(on_map, images(16))
    assert plan.classifier == "1"
    assert plan.final == "0"


def test_a_network_of_linear_layers_is_refused_in_words() -> None:
    mlp = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 3)))
    with pytest.raises(InvalidInputError, match="no feature map") as caught:
        find_taps(mlp, images(4))
    assert "\n" not in str(caught.value)


def test_named_taps_override() -> None:
    network = CifarResNet((1, 1, 1)).eval()
    named = {"final": "layer2", "stages": ["conv1", "layer3.0.conv2"], "classifier": "fc"}
    assert find_taps(network, images(32), named) == TapPlan(
        "layer2", "fc", ("conv1", "layer3.0.conv2")
    )
    one = find_taps(network, images(32), {"stages": "layer1"})
    assert one == TapPlan("layer3", "fc", ("layer1",))


@pytest.mark.parametrize(
    ("named", "error", "message"),
    [
        ({"final": "layr3"}, UnknownNameError, "'layr3'; did you mean layer3"),
        ({"fnal": "layer3"}, UnknownNameError, "'fnal'; did you mean final"),
        ({"final": "fc"}, InvalidInputError, r"'fc' gives out \[2, 10\]; need a feature map"),
        ({"stages": ["layer1", "fc"]}, InvalidInputError, "need a feature map"),
        ({"stages": []}, InvalidInputError, "need the name of one module"),
        ({"final": ["layer1", "layer2"]}, InvalidInputError, "need the name of one module"),
        ({"classifier": "layer3"}, InvalidInputError, "'layer3' is no linear layer"),
    ],
)
def test_wrong_names_are_refused_in_words(
    named: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        find_taps(CifarResNet((1, 1, 1)).eval(), images(32), named)
    assert "\n" not in str(caught.value)


def test_no_hook_stays() -> None:
    network = seeded(toy)
    find_taps(network, images(16))
    with pytest.raises(RuntimeError, match="channels"):
        find_taps(network, images(16, channels=2))
    hooks = [(m._forward_hooks, m._forward_pre_hooks) for m in network.modules()]
    assert not any(after or before for after, before in hooks)


def test_plan_as_json() -> None:
    plan = TapPlan("b", None, ("a", "b"))
    assert TapPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    for broken in ({}, {"final": 1, "classifier": None, "stages": []}, {"final": "a"}):
        with pytest.raises(InvalidInputError, match="not a tap plan"):
            TapPlan.from_json(broken)
