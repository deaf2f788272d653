"""What is refused before any candidate is scored, in one line that says the way out."""

from __future__ import annotations

from collections.abc import Sequence

from ..searchspace.elastic import ElasticNetwork, to_channels_last
from ..searchspace.errors import InvalidInputError
from ..searchspace.space import SearchSpace
from .batch import Batch
from .passes import PRECISIONS
from .registry import Proxy

__all__ = ["check_batch", "check_images", "check_precision", "naming", "scored_network"]

#: What a proxy can need of a network, and what it is called.
_TRAITS = {"bn": "batch norm", "relu": "ReLU activations", "attention": "attention layers"}


def naming(proxies: Sequence[Proxy], need: str) -> str:
    """``"proxies 'a', 'b'"``: those that have a need."""
    names = [repr(proxy.name) for proxy in proxies if need in proxy.needs]
    return f"prox{'y' if len(names) == 1 else 'ies'} {', '.join(names)}"


def check_precision(proxies: Sequence[Proxy], precision: str, *, given: bool) -> None:
    """Refuse a precision in which ranks do not hold.

    Args:
        proxies: that are asked for.
        precision: one of :data:`~scholarch.proxies.passes.PRECISIONS`.
        given: whether candidates have a supernet's weights.

    Raises:
        InvalidInputError: naming the proxies, or the precisions that there are.
    """
    if precision not in PRECISIONS:
        raise InvalidInputError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if precision == "float32":
        return
    if given:
        raise InvalidInputError(
            f"precision {precision!r}; ranks on a supernet's weights have not been shown to hold"
            " in it: take float32"
        )
    moved = [p.name for p in proxies if "forward" in p.needs and not p.bfloat16]
    if moved:
        raise InvalidInputError(
            f"{', '.join(moved)} {'ranks' if len(moved) == 1 else 'rank'} otherwise in"
            f" {precision}, or has not been shown not to; leave it out, or take float32"
        )


def check_batch(space: SearchSpace, proxies: Sequence[Proxy], batch: Batch, *, given: bool) -> None:
    """Refuse inputs that a space does not take, and proxies that are not defined on them.

    Args:
        space: whose candidates are scored.
        proxies: that are asked for.
        batch: what they are scored on.
        given: whether candidates have a supernet's weights.

    Raises:
        InvalidInputError: naming what does not fit.
    """
    batch.check_modality(f"space {space.name!r}", space.modality)
    if batch.images.shape[1] != space.in_channels:
        raise InvalidInputError(
            f"the batch has {batch.images.shape[1]} channels, space {space.name!r}"
            f" takes {space.in_channels}; create it with in_channels={batch.images.shape[1]}"
        )
    if tuple(batch.images.shape[1:]) != space.input_shape(int(batch.images.shape[3])):
        raise InvalidInputError(
            f"the batch's images are {batch.images.shape[2]}×{batch.images.shape[3]} pixels;"
            " costs are counted for square ones; crop or pad them"
        )
    for proxy in proxies:
        if reason := proxy.unfit(space.modality, batch.has_targets, given):
            raise InvalidInputError(
                f"proxy {proxy.name!r} is not defined here: {reason}; leave it out"
            )
    # A supernet's answers stay as long as they are; inputs need none to be scored on.
    unlabelled = given and batch.num_classes == 0
    if batch.num_classes != space.num_classes and not unlabelled:
        way = "give the data it was trained on" if given else f"create it with {_classes(batch)}"
        raise InvalidInputError(
            f"the batch has {batch.num_classes} classes, space {space.name!r} is made"
            f" for {space.num_classes}; {way}"
        )


def _classes(batch: Batch) -> str:
    return f"num_classes={batch.num_classes}"


def check_images(proxies: Sequence[Proxy], batch: Batch) -> None:
    """Refuse fewer images than a proxy needs.

    Raises:
        InvalidInputError: naming the proxy that needs most.
    """
    if short := [proxy for proxy in proxies if proxy.images > len(batch)]:
        most = max(short, key=lambda proxy: proxy.images)
        raise InvalidInputError(
            f"proxy {most.name!r} needs at least {most.images} images, the batch has"
            f" {len(batch)}; take {most.images} or more (--batch-size, of a benchmark --size),"
            " or leave it out"
        )


def scored_network(
    space: SearchSpace, proxies: Sequence[Proxy], seed: int, given: ElasticNetwork | None
) -> ElasticNetwork:
    """The nested network, on a CPU: its weights N(0, 1) of a seed, or a copy of given ones.

    It is in training mode, for batch norm by the batch's statistics: running ones of a supernet
    are no architecture's, see :class:`~scholarch.supernet.evaluate.Evaluator`.

    Raises:
        InvalidInputError: if a proxy needs what the space's networks lack, or the given network
            is none of the space.
    """
    network = space.supernet(seed=seed, init="normal").train()
    network.requires_grad_(False)
    if given is not None:
        try:
            network.load_state_dict(given.state_dict())
        except RuntimeError as error:
            raise InvalidInputError(
                f"the network is none of space {space.name!r}, whose tensors have other names or"
                " shapes; give the supernet's own space"
            ) from error
    to_channels_last(network)
    for trait, what in _TRAITS.items():
        if trait not in network.traits and any(trait in proxy.needs for proxy in proxies):
            raise InvalidInputError(
                f"{naming(proxies, trait)} need {what}, which the networks of space"
                f" {space.name!r} lack; leave it out"
            )
    return network
