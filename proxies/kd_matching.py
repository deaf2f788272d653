"""What relation distillers compare: stages of teacher and student, brought to one grid.

DisWOT (Dong, Li and Wei, CVPR 2023) takes the loss of a distiller between teacher and randomly
initialised student for a score of the student. Such scores are registered as ``kd-<name>``,
lower is better, where the loss is defined without learnt layers. It is not for those that
compare through layers trained along with the student: FitNets' hints, FT, VID, AB, CRD, SRRL,
SemCKD, ReviewKD; nor for FSP and others that need equally many channels on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import Tensor
from torch.nn import functional

from .diswot import teacher_of
from .layouts import as_map
from .probe import Probe, TeacherSide

__all__ = [
    "KD_NEEDS",
    "as_grid",
    "maps_side_by_side",
    "stage_pairs",
    "student_final_map",
    "student_stages",
]

KD_NEEDS = frozenset({"forward", "teacher"})


def stage_pairs(students: int, teachers: int) -> list[tuple[int, int]]:
    """Stages matched by relative depth, the last with the last, none used twice.

    Returns:
        As many (student's, teacher's) indices as the shallower of the two has stages.
    """
    pairs = min(students, teachers)
    ranks = range(1, pairs + 1)
    return [(-(-k * students // pairs) - 1, -(-k * teachers // pairs) - 1) for k in ranks]


def as_grid(x: Tensor, image: tuple[int, int]) -> Tensor:
    """Tokens ``[B, C, 1, N]`` laid out as ``[B, C, h, w]``, prefix tokens dropped.

    Maps, and tokens that cover no grid of the image's aspect, stay as they are.
    """
    if x.shape[2] != 1 or x.shape[3] == 1:
        return x
    grid = as_map(x.squeeze(2).transpose(1, 2), image)
    return x if grid is None else grid


def _image(probe: Probe) -> tuple[int, int]:
    if probe.images is None:
        raise RuntimeError("distillers take the images' shape from the batch")
    return int(probe.images.shape[2]), int(probe.images.shape[3])


def student_final_map(probe: Probe) -> Tensor:
    """The student's final map ``[B, C, h, w]``, tokens on their grid."""
    return as_grid(probe.final_map, _image(probe))


def student_stages(probe: Probe) -> Iterator[tuple[Tensor, int]]:
    """The student's matched stages, shallow to deep, with the index of the teacher's."""
    last_of_side = {}
    for block in probe.blocks:
        height, width = block.output.shape[2:]
        # A Transformer's last norm makes all tokens equally long, which leaves no attention.
        if block.step.kind != "head" or height == width:
            last_of_side[width] = block.output.detach()
    stages = list(last_of_side.values() if probe.modality == "image" else probe.taps.stages)
    for i, j in stage_pairs(len(stages), len(teacher_of(probe).taps.stages)):
        yield as_grid(stages[i], _image(probe)), j


def maps_side_by_side(probe: Probe) -> Iterator[tuple[Tensor, Tensor]]:
    """Student's and teacher's maps of matched stages, shallow to deep.

    Both are pooled, by averages, to the smaller height and the smaller width of the two.
    """
    teacher = teacher_of(probe)
    for student, j in student_stages(probe):
        stage = teacher.taps.stages[j]
        height, width = (
            min(*sides) for sides in zip(student.shape[2:], stage.shape[2:], strict=True)
        )
        yield (
            _pooled(student, height, width),
            # The same for every student of that size.
            teacher.memo(f"kd_stage_{j}_{height}x{width}", partial(_stage, j, height, width)),
        )


def _stage(index: int, height: int, width: int, teacher: TeacherSide) -> Tensor:
    return _pooled(teacher.taps.stages[index], height, width)


def _pooled(x: Tensor, height: int, width: int) -> Tensor:
    if x.shape[2:] == (height, width):
        return x
    return functional.adaptive_avg_pool2d(x, (height, width))
