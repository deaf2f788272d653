"""Trained supernets of the once-for-all project, read into our elastic networks.

Layouts ``OFAMobileNetV3``, ``OFAProxylessNASNets`` and ``OFAResNets`` (Cai et al., ICLR 2020, and
released code), which CompOFA (Sahni et al., ICLR 2021) shares. Names are compared after the
differences between releases are taken off; numbers are left as they are, as both sides nest
channels, blocks and kernels in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..searchspace.convnets.mobilenet_net import ElasticMobileNet
from ..searchspace.convnets.resnet50_net import ElasticResNet50D
from ..searchspace.elastic import ElasticNetwork
from ..searchspace.errors import InvalidInputError
from ..searchspace.factory import create_space
from ..searchspace.files import make_folder
from ..searchspace.weights import read_weights
from .ofa_names import MATRIX, layer_names, plain_name
from .pretrained import FILE, Supernet, write_supernet

__all__ = ["OFAReport", "convert_ofa_state", "load_ofa_checkpoint"]

#: Layout → the space that makes its network, and features before the classifier at width 1.
LAYOUTS = {
    "OFAMobileNetV3": ("mobilenetv3", 1280),
    "OFAProxylessNASNets": ("proxylessnas", 1280),
    "OFAResNets": ("resnet50", 2048),
}


@dataclass(frozen=True, slots=True)
class OFAReport:
    """What was read.

    Attributes:
        layout: a name of :data:`LAYOUTS`.
        tensors: how many were taken over.
        transforms: whether the file has the matrices that make small kernels of large ones;
            if not, they are centre crops here, as in the code that wrote such a file.
        unused: names of tensors left aside: matrices of kernels that the network lacks, and the
            classifier where the network keeps its own.
    """

    layout: str
    tensors: int
    transforms: bool
    unused: tuple[str, ...]


def load_ofa_checkpoint(
    network: ElasticNetwork, path: str | Path, *, keep_classifier: bool = False
) -> OFAReport:
    """Fill a supernet with the weights of a once-for-all checkpoint.

    The running statistics of batch norm come along, but fit the largest network at best:
    recalibrate before any other is evaluated.

    Args:
        network: of space ``mobilenetv3``, ``mobilenetv3-cifar``, ``compofa``,
            ``compofa-elastic``, ``proxylessnas`` or ``resnet50``, at the checkpoint's width;
            changed in place, or left as it was if anything is refused.
        path: ``.safetensors``, or what ``torch.save`` wrote; never unpickled.
        keep_classifier: leave the network its own classifier, to be trained on other classes.

    Raises:
        InvalidInputError: if the file cannot be read, or holds another network: another
            layout, width, number of classes, depth or kernel.
    """
    path = Path(path)
    found = read_weights(path)
    what = f"checkpoint {str(path)!r}"
    state, report = convert_ofa_state(network, found, keep_classifier=keep_classifier, what=what)
    own = network.state_dict()
    with torch.no_grad():
        for key, value in state.items():
            own[key].copy_(value)
    return report


def convert_ofa_state(
    network: ElasticNetwork,
    state: Mapping[str, Tensor],
    *,
    keep_classifier: bool = False,
    what: str = "the state dict",
) -> tuple[dict[str, Tensor], OFAReport]:
    """A once-for-all state dict by the network's own names; the network is not changed.

    Args:
        network: see :func:`load_ofa_checkpoint`.
        state: as their ``network.state_dict()`` gives it, of any release.
        keep_classifier: leave the classifier out.
        what: the state dict's name in messages.

    Returns:
        Tensors by our names, of our shapes; and what was read.

    Raises:
        InvalidInputError: see :func:`load_ofa_checkpoint`.
    """
    theirs: dict[str, Tensor] = {}
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):
            name = plain_name(key)
            if name in theirs:
                raise InvalidInputError(f"{what} has two tensors for {name!r}")
            theirs[name] = value
    layout = _check_layout(network, theirs, what)
    names = layer_names(network, layout)
    if keep_classifier:
        names = {key: name for key, name in names.items() if not name.startswith("classifier.")}
    transforms = any(MATRIX.search(name) for name in theirs)
    used = {name for name in names.values() if transforms or not MATRIX.search(name)}
    _check_names(theirs, used, keep_classifier, what)
    _check_sizes(network, theirs, layout, keep_classifier, what)
    own = network.state_dict()
    converted: dict[str, Tensor] = {}
    for key, name in names.items():
        if name not in theirs:  # a matrix, in a file without any
            converted[key] = torch.eye(own[key].shape[0])
            continue
        converted[key], matrices = _shrink(theirs, name, own[key].shape[-1])
        used |= matrices
        if converted[key].shape != own[key].shape:
            shape, need = list(theirs[name].shape), list(own[key].shape)
            raise InvalidInputError(
                f"{what}: tensor {name!r} is {shape}, the network needs {need}; make the space"
                " with the checkpoint's kernels, expansions and channels"
            )
    unused = tuple(sorted(set(theirs) - used))
    return converted, OFAReport(layout, len(used), transforms, unused)


def _shrink(theirs: Mapping[str, Tensor], name: str, side: int) -> tuple[Tensor, set[str]]:
    """A tensor, depthwise ones as the kernel of ``side`` they stand for; and matrices used.

    CompOFA with fixed kernels is stored with the largest kernels of its space. The centre is
    taken step by step and multiplied with the matrices that the file has, as a forward pass
    of the network that was saved does.
    """
    weight = theirs[name]
    used: set[str] = set()
    if not name.endswith("depth_conv.conv.weight"):
        return weight, used
    prefix = name.removesuffix("weight")
    steps = {
        int(match[1]): (int(match[2]), other)
        for other in theirs
        if other.startswith(prefix) and (match := MATRIX.search(other))
    }
    while weight.shape[-1] > side:
        smaller, matrix = steps.get(weight.shape[-1], (side, ""))
        edge = (weight.shape[-1] - smaller) // 2
        weight = weight[..., edge : edge + smaller, edge : edge + smaller]
        if matrix:
            weight = (weight.flatten(1) @ theirs[matrix].T).view_as(weight)
            used.add(matrix)
    return weight, used


def _check_layout(network: ElasticNetwork, theirs: Mapping[str, Tensor], what: str) -> str:
    if isinstance(network, ElasticMobileNet):
        need = "OFAMobileNetV3" if network.config.mix else "OFAProxylessNASNets"
    elif isinstance(network, ElasticResNet50D):
        need = "OFAResNets"
    else:
        spaces = ", ".join(space for space, _ in LAYOUTS.values())
        raise InvalidInputError(
            f"a once-for-all checkpoint does not fit {type(network).__name__}; need the supernet"
            f" of a space such as {spaces}"
        )
    if any(name.startswith("input_stem.") for name in theirs):
        layout = "OFAResNets"
    elif "final_expand_layer.conv.weight" in theirs:
        layout = "OFAMobileNetV3"
    elif "feature_mix_layer.bn.weight" in theirs:
        layout = "OFAProxylessNASNets"
    else:
        raise InvalidInputError(
            f"{what} is no once-for-all network ({', '.join(LAYOUTS)}); its first of"
            f" {len(theirs)} tensors is {next(iter(theirs), None)!r}"
        )
    if layout != need:
        raise InvalidInputError(
            f"{what} holds an {layout}, this network is an {need}; make the supernet of space"
            f" {LAYOUTS[layout][0]!r}"
        )
    return layout


def _check_names(
    theirs: Mapping[str, Tensor], used: set[str], keep_classifier: bool, what: str
) -> None:
    missing = sorted(used - set(theirs))
    if missing:
        raise InvalidInputError(
            f"{what} lacks {len(missing)} of {len(used)} tensors, first {missing[0]!r}; is it of"
            " a smaller depth, or a single subnet?"
        )
    elastic = {name.rpartition(".")[0] for name in used if MATRIX.search(name)}
    unexpected = [
        name
        for name in theirs
        if name not in used
        and not (keep_classifier and name.startswith("classifier."))
        # Matrices of a layer whose kernel is fixed here are applied where needed, else idle.
        and (name.rpartition(".")[0] in elastic or not MATRIX.search(name))
    ]
    if unexpected:
        raise InvalidInputError(
            f"{what} has {len(unexpected)} tensors without a place in the network, first"
            f" {unexpected[0]!r}; is it of another depth or of other kernels?"
        )


def _check_sizes(
    network: ElasticNetwork,
    theirs: Mapping[str, Tensor],
    layout: str,
    keep_classifier: bool,
    what: str,
) -> None:
    classes, own_features = network.classifier.weight.shape
    widest = "classifier.linear.weight"
    if widest not in theirs:
        return
    found_classes, features = theirs[widest].shape
    if features != own_features:
        width = features / LAYOUTS[layout][1]
        raise InvalidInputError(
            f"{what} has a width multiplier of {width:.3g} ({features} features before the"
            f" classifier), the network has {own_features}; make the space with"
            f" width_mult={width:.3g}"
        )
    if found_classes != classes and not keep_classifier:
        raise InvalidInputError(
            f"{what} tells {found_classes} classes apart, the network {classes}; make the space"
            f" with num_classes={found_classes}, or keep the network's own classifier"
        )


def import_ofa(
    path: str | Path,
    *,
    out: str | Path,
    space: str = "mobilenetv3",
    num_classes: int = 1000,
    **options: Any,
) -> Supernet:
    """Make a supernet that can be searched of a once-for-all checkpoint.

    Args:
        path: the checkpoint, see :func:`load_ofa_checkpoint`.
        out: folder to write; :func:`~scholarch.supernet.pretrained.load_supernet` reads it.
        space: registered name of the space it was trained in.
        num_classes: outputs of its classifier.
        **options: of the space: ``width_mult``, ``resolution``.

    Raises:
        InvalidInputError: if the checkpoint is of another space or width; nothing is written.
        StoreError: if the folder cannot be written.
    """
    made = create_space(space, num_classes=num_classes, **options)
    network = made.supernet()
    report = load_ofa_checkpoint(network, path)
    about = {"imported": {"file": Path(path).name, "layout": report.layout}}
    folder = Path(out).expanduser()
    make_folder(folder)
    write_supernet(made, network, folder / FILE, about)
    return Supernet(made, network.eval(), about, folder / FILE)
