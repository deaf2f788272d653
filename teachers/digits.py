"""Train the bundled teacher: ResNet-14 on the digits.

``python -m scholarch.teachers.digits`` writes the weights and a JSON file beside them with
accuracies and all that repeats it. Validation accuracy chooses the epoch; the test part is
looked at once, afterwards.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from ..data import Part, load_data
from ..searchspace.convnets.resnet_cifar_net import CifarResNet
from .bundled import BUNDLED, DEPTHS, WIDTHS

__all__ = ["train"]

#: The digits' pixels are 4×4, so 3 stays below one of them.
MAX_SHIFT = 3
BATCH = 64
PEAK_RATE = 0.1
WEIGHT_DECAY = 5e-4
WARMUP = 0.1


def _tensors(part: Part) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(part.images).permute(0, 3, 1, 2).float() / 255.0
    return images.contiguous(), torch.from_numpy(part.labels)


def _shifted(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Each image moved by up to ``MAX_SHIFT`` pixels, black where it came from."""
    side = images.shape[-1]
    padded = functional.pad(images, (MAX_SHIFT,) * 4)
    offsets = rng.integers(0, 2 * MAX_SHIFT + 1, size=(len(images), 2))
    crops = [
        image[:, top : top + side, left : left + side]
        for image, (top, left) in zip(padded, offsets.tolist(), strict=True)
    ]
    return torch.stack(crops)


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine, as a fraction of the peak."""
    warm = WARMUP * steps
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / (steps - warm)))


@torch.no_grad()
def _evaluate(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy and mean cross-entropy."""
    network.eval()
    logits = torch.cat([network(chunk) for chunk in images.split(256)])
    accuracy = float((logits.argmax(dim=1) == labels).float().mean())
    return accuracy, float(functional.cross_entropy(logits, labels))


def _epochs(
    network: nn.Module, images: Tensor, labels: Tensor, mean: Tensor, std: Tensor, epochs: int,
    seed: int,
) -> Iterator[int]:  # fmt: skip
    """Train in place; yields after each epoch."""
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.SGD(
        network.parameters(), PEAK_RATE, 0.9, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    steps_an_epoch = len(labels) // BATCH
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rate(step, epochs * steps_an_epoch)
    )
    for epoch in range(1, epochs + 1):
        network.train()
        order = torch.from_numpy(rng.permutation(len(labels)))
        for chosen in order[: steps_an_epoch * BATCH].split(BATCH):
            x = (_shifted(images[chosen], rng) - mean) / std
            loss = functional.cross_entropy(network(x), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        yield epoch


def train(epochs: int, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train and choose.

    Args:
        epochs: passes over the training part.
        seed: of the initial weights, the order and the shifts.

    Returns:
        The chosen weights, and what is known about them: ``accuracy`` by part, mean, std.
    """
    data = load_data("digits")
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (data.mean, data.std))
    parts = {name: _tensors(getattr(data, name)) for name in ("train", "val", "test")}
    seen = {name: ((x - mean) / std, y) for name, (x, y) in parts.items()}
    network = CifarResNet(DEPTHS, WIDTHS, num_classes=data.num_classes, seed=seed)
    best, chosen, weights = (-1.0, 0.0), 0, network.state_dict()
    for epoch in _epochs(network, *parts["train"], mean, std, epochs, seed):
        accuracy, loss = _evaluate(network, *seen["val"])
        print(f"epoch {epoch}/{epochs}: validation {accuracy:.4f}, loss {loss:.4f}", flush=True)
        if (accuracy, -loss) > best:
            best, chosen = (accuracy, -loss), epoch
            weights = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(weights)
    facts = {
        "accuracy": {name: round(_evaluate(network, *seen[name])[0], 6) for name in seen},
        "images": {name: len(labels) for name, (_, labels) in seen.items()},
        "chosen_epoch": chosen,
        "mean": data.mean,
        "std": data.std,
        "params": sum(parameter.numel() for parameter in network.parameters()),
    }
    return weights, facts


def main(arguments: list[str] | None = None) -> int:
    """Train, write both files, print the accuracies."""
    parser = argparse.ArgumentParser(
        prog="python -m scholarch.teachers.digits", description=__doc__
    )
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="a folder")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the order of additions, hence the bytes, depends on it
    weights, facts = train(chosen.epochs, chosen.seed)
    path = chosen.out / f"{BUNDLED}.safetensors"
    path.write_bytes(save({key: value.contiguous() for key, value in weights.items()}))
    facts |= {
        "name": BUNDLED,
        "network": f"CIFAR ResNet, blocks {DEPTHS}, widths {WIDTHS}, option B",
        "command": f"{parser.prog} --epochs {chosen.epochs} --seed {chosen.seed}",
        "epochs": chosen.epochs,
        "seed": chosen.seed,
        "torch": torch.__version__,
        "bytes": path.stat().st_size,
    }
    path.with_suffix(".json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
    print(json.dumps(facts["accuracy"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
