"""A supernet that nobody trained: the teacher's own weights, in an order that suits students."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .data import DataSet, labelled, load_data
from .deriving import encoder_of, space_of_data
from .searchspace.errors import InvalidInputError
from .searchspace.factory import create_space
from .searchspace.files import make_folder
from .searchspace.space import SearchSpace
from .searchspace.transformers.encoder import ElasticEncoder, Encoder
from .searchspace.transformers.patch_stem import PatchStemSpec
from .supernet.distil.arrange import arrange
from .supernet.distil.patches import fit_patches
from .supernet.loader import part_fingerprint
from .supernet.pretrained import FILE, Supernet, write_supernet
from .teacher import Teacher, load_teacher

__all__ = ["inherit_supernet"]

#: Training inputs on which the importance of channels, heads and features is measured.
INPUTS = 128


def inherit_supernet(
    *,
    teacher: Teacher | str | Path | Any,
    data: Any,
    space: str | None = None,
    space_options: Mapping[str, Any] | None = None,
    how: str = "importance",
    inputs: int = INPUTS,
    seed: int = 0,
    out: str | Path | None = None,
    announce: Callable[[str], None] | None = None,
) -> Supernet:
    """Put a Transformer teacher's weights into the supernet of its students, without training.

    The largest network is the teacher; a student's channels, heads, features and layers are the
    teacher's most important ones (Minitron, Muralidharan et al., NeurIPS 2024, §2), evenly spaced
    ones (weight selection, Xu et al., ICLR 2024) or its first. What comes out is searched like a
    trained supernet (``find_student(supernet=…)``): a candidate's score is how well the inherited
    student does on the validation part. And training may begin with it
    (``train_supernet(start=…)``).

    Args:
        teacher: a Transformer that ``load_teacher`` knows: ``minilm-l6``, ``whisper-tiny-en``, a
            ViT of timm's, a folder in Hugging Face's layout, an encoder of ours.
        data: see ``load_data``; unlabelled inputs get the teacher's answers for labels.
        space: registered name; default the one that is made from such a teacher.
        space_options: what the space's factory takes beside classes and resolution.
        how: ``"importance"``, ``"even"``, ``"prefix"`` or ``"stages"``, see
            :func:`~scholarch.supernet.distil.arrange.arrange`.
        inputs: training inputs on which importance is measured.
        seed: of their draw, and of a classifier that the teacher has not.
        out: folder that gets ``supernet.safetensors``; default in memory.
        announce: told what was done, in a line.

    Raises:
        InvalidInputError: if the teacher is no Transformer, takes other inputs than the data are,
            or the space was not made from it.
        StoreError: if ``out`` cannot be written.
    """
    dataset = load_data(data)
    guide = load_teacher(teacher, classes=dataset)
    encoder = encoder_of(guide)
    if encoder is None:
        raise InvalidInputError(
            f"teacher {guide.name!r} is no Transformer whose students can inherit from it; need"
            " minilm-l6, whisper-tiny-en, a plain ViT of timm's, or a folder in Hugging Face's"
            " layout"
        )
    dataset = labelled(dataset, [guide])
    batch = dataset.batch(min(inputs, len(dataset.train.labels)), seed)
    batch.check_modality(f"teacher {guide.name!r}", guide.modality)
    given = {
        "num_classes": dataset.num_classes,
        "resolution": dataset.resolution,
        "in_channels": len(dataset.mean),
    }
    made = space_of_data(space, given, guide, space_options)
    encoder = _fitted(encoder, guide, made, dataset)
    network = _elastic(made, seed)
    found = arrange(network, encoder, batch.normalised, how)
    made = _keeping(made, found.keep)
    about: dict[str, Any] = {
        "settings": {"schedule": f"inherited, {how}", "seed": seed},
        "data": {
            "name": dataset.name,
            "mean": list(dataset.mean),
            "std": list(dataset.std),
            "resolution": dataset.resolution,
            **{part: part_fingerprint(getattr(dataset, part)) for part in ("train", "val")},
        },
        "teacher": {"name": guide.name, "fingerprint": guide.fingerprint},
        "next_step": 0,
        "steps": 0,
        "macs_passed": 0.0,
    }
    path = None
    if out is not None:
        folder = Path(out).expanduser()
        make_folder(folder)
        path = folder / FILE
        write_supernet(made, network, path, about)
    if announce is not None:
        where = "" if path is None else f", in {path}"
        head = "" if found.head else "; its classifier is new, the teacher has none that fits"
        announce(f"{made.name} from {guide.name}, {how}{head}{where}")
    return Supernet(made, network.eval(), about, path)


def _elastic(space: SearchSpace, seed: int) -> ElasticEncoder:
    network = space.supernet(seed=seed)
    if not isinstance(network, ElasticEncoder):
        raise InvalidInputError(
            f"space {space.name!r} is none of encoders; need one that is made from its teacher,"
            " such as bert-from-teacher"
        )
    return network


def _fitted(encoder: Encoder, guide: Teacher, space: SearchSpace, data: DataSet) -> Encoder:
    """A ViT that takes its students' images: their patches, their mean and deviation."""
    stem = getattr(space, "stem", None)
    if not isinstance(stem, PatchStemSpec):
        return encoder
    if guide.mean is None or guide.std is None:
        return fit_patches(encoder, stem)
    given, wanted = (guide.mean, guide.std), (data.mean, data.std)
    return fit_patches(encoder, stem, given=given, wanted=wanted)


def _keeping(space: SearchSpace, keep: Mapping[int, tuple[int, ...]]) -> SearchSpace:
    """The same space whose students of each depth take those of the teacher's layers."""
    spec = space.spec()
    if "outline" not in spec:
        raise InvalidInputError(
            f"space {space.name!r} was not made from the teacher; need one such as"
            " bert-from-teacher"
        )
    spec["outline"] = spec["outline"] | {"keep": {str(k): list(v) for k, v in keep.items()}}
    return create_space(**spec)
