"""Scoring architectures as one function: nothing is searched, nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from .proxies.batch import Batch
from .proxies.ensemble import DEFAULT, ENSEMBLES, ensemble_for
from .proxies.ranks import log_rank_sum
from .proxies.registry import list_proxies as _list_proxies
from .proxies.scoring import Scorer, ScoreTable
from .proxies.teacher import Teacher
from .proxies.token_reader import tokens_for
from .search.budget import Budget
from .search.domain import Domain
from .search.find import REFERENCE_SIZE
from .search.settings import ranks_nothing
from .searchspace.architecture import Architecture
from .searchspace.errors import InvalidInputError
from .searchspace.space import SearchSpace
from .supernet.pretrained import Supernet, load_supernet
from .teacher import load_teacher

__all__ = ["list_proxies", "score"]


def list_proxies(pattern: str = "*") -> list[str]:
    """Names of proxies and ensembles that match a shell pattern."""
    return sorted([*_list_proxies(pattern), *ENSEMBLES.names(pattern)])


def score(
    space: SearchSpace | None = None,
    archs: Sequence[Architecture] = (),
    *,
    supernet: Supernet | str | Path | None = None,
    batch: Batch | tuple[Tensor, Tensor] | None = None,
    teacher: Teacher | nn.Module | str | None = None,
    proxies: Sequence[str] | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "float32",
) -> ScoreTable:
    """Score architectures without training them.

    Args:
        space: where they come from; a supernet brings its own.
        archs: what to score.
        supernet: whose weights they have, as they are: what ``inherit_supernet``,
            ``train_supernet`` or ``load_supernet`` gave, its file or the folder of a run; default
            random ones, which is what the proxies were made and compared for. Batch norm uses
            the batch's statistics. Proxies have to be named: no ensemble was chosen on such
            weights.
        batch: real images and labels; not needed for params, macs and depth.
        teacher: needed by the teacher-student similarities.
        proxies: registered names; default the ensemble, under ``"ensemble"``.
        seed: of the weights and of the reference sample an ensemble ranks against, 64
            architectures of the whole space.
        device: where candidates are scored: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        precision: of convolutions and linear layers, ``"float32"`` or ``"bfloat16"``; proxies
            whose ranks do not hold in it are refused.

    Returns:
        Name → float64 ``[N]``, every column oriented: higher is better; NaN = failed, with
        the reason in ``table.failures[row, name]``.

    Raises:
        UnknownNameError: for an unknown proxy.
        InvalidInputError: if a need is not met, there is no such device, neither space nor
            supernet is given or they differ, or a proxy is defined on random weights alone.

    Example:
        >>> import scholarch
        >>> space = scholarch.create_space("resnet-cifar-s0")
        >>> archs = [space.parse("111"), space.parse("777")]
        >>> table = scholarch.score(space, archs, proxies=["macs"])
        >>> table["macs"].tolist()
        [12501632.0, 97436288.0]
    """
    proxies = (proxies,) if isinstance(proxies, str) else proxies
    trained = load_supernet(supernet) if isinstance(supernet, str | Path) else supernet
    space = _space_of(space, trained, proxies)
    names = tuple(dict.fromkeys(proxies or (DEFAULT,)))
    ensembles = {name: ensemble_for(name, space.family) for name in names if name in ENSEMBLES}
    plain = [name for name in names if name not in ENSEMBLES]
    parts = [part for ensemble in ensembles.values() for part in ensemble.parts]
    given = _batch_of(batch, space, trained) if batch is not None else None
    taps = None
    if teacher is not None and given is not None:
        guide = load_teacher(teacher)
        taps = guide.observe(given, tokens_for([*plain, *parts], guide.module))
    scorer = Scorer(
        space,
        [*plain, *parts],
        batch=given,
        teacher=taps,
        seed=seed,
        device=device,
        precision=precision,
        network=None if trained is None else trained.network,
    )
    table = scorer.table(archs)
    columns, failures = dict(table.columns), dict(table.failures)
    if ensembles:
        domain = Domain(space, Budget({}), seed=seed)
        rows = domain.reference(REFERENCE_SIZE, seed)
        reference = scorer.table(space.decode(rows))
        for part in dict.fromkeys(parts):
            if not np.isfinite(reference[part]).any():
                raise ranks_nothing(
                    part, [reference.failures.get((i, part)) for i in range(len(rows))]
                )
        for key, ensemble in ensembles.items():
            columns[key] = log_rank_sum(
                {part: columns[part] for part in ensemble.parts},
                {part: reference[part] for part in ensemble.parts},
                ensemble.weight_of,
            )
            for (row, name), reason in table.failures.items():
                if name in ensemble.parts:
                    failures[row, key] = f"{name}: {reason}"
    return ScoreTable(
        {name: columns[name] for name in names},
        {key: reason for key, reason in failures.items() if key[1] in names},
    )


def _space_of(
    space: SearchSpace | None, supernet: Supernet | None, proxies: Sequence[str] | None
) -> SearchSpace:
    """Where architectures come from; refuses what does not go together."""
    if supernet is None:
        if space is None:
            raise InvalidInputError("no space to score architectures of; give a space or supernet=")
        return space
    if space is not None and space.spec() != supernet.space.spec():
        raise InvalidInputError(
            f"space {space.name!r} beside a supernet of another, {supernet.space.name!r}; leave the"
            " space out, the supernet brings its own"
        )
    if not proxies:
        raise InvalidInputError(
            "no proxies to score a supernet's weights by; name some: the default ensemble was"
            " chosen on random weights"
        )
    return supernet.space


def _batch_of(
    batch: Batch | tuple[Tensor, Tensor], space: SearchSpace, supernet: Supernet | None
) -> Batch:
    if isinstance(batch, Batch):
        return batch
    images, labels = batch
    seen = {} if supernet is None else supernet.about.get("data", {})
    if "mean" in seen and "std" in seen:  # weights go with what they were trained on
        return Batch(images, labels, space.num_classes, tuple(seen["mean"]), tuple(seen["std"]))
    mean = tuple(images.mean(dim=(0, 2, 3)).tolist())
    std = tuple(images.std(dim=(0, 2, 3)).clamp_min(1e-6).tolist())
    return Batch(images, labels, space.num_classes, mean, std)
