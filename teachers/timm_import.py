"""timm and transformers, imported so that a mismatched torchvision does not stop them.

Both import torchvision. The wheel of torchvision that the package registry serves is built
for CUDA; its compiled operators do not load beside a CPU build of torch, and the import
then dies with ``operator torchvision::nms does not exist``, although their models use none
of them. Declaring the schemas it misses, without kernels, lets the import pass. That is
done on this very error only: on a healthy install it would collide with the real operators.
"""

from __future__ import annotations

from types import ModuleType

import torch

from ..searchspace.errors import InvalidInputError

__all__ = ["import_timm", "import_transformers"]

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

#: The declarations live as long as the library object does.
_libraries: list[torch.library.Library] = []


def import_timm() -> ModuleType:
    """The ``timm`` module.

    Raises:
        ImportError: if timm or torchvision is not installed.
    """
    _mend_torchvision()
    import timm

    return timm


def import_transformers() -> ModuleType:
    """The ``transformers`` module, which the extra ``text`` brings.

    Raises:
        InvalidInputError: if it is not installed.
    """
    try:
        _mend_torchvision()
        import transformers
    except ImportError as error:
        raise InvalidInputError(
            "transformers is not installed; pip install 'scholarch[text]'"
        ) from error
    found: ModuleType = transformers
    return found


def _mend_torchvision() -> None:
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error) or _libraries:
            raise
        library = torch.library.Library("torchvision", "DEF")
        for schema in SCHEMAS:
            library.define(schema)
        _libraries.append(library)
