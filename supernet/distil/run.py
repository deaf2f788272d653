"""A distillation run in a folder: the training run of a supernet, judged by one network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from ...searchspace.architecture import Architecture
from ...searchspace.errors import InvalidInputError
from ...searchspace.files import write_atomic
from ..session import Progress, TrainingRun
from .trainer import StudentTrainer

__all__ = ["STUDENT", "StudentRun", "load_best"]

STUDENT = "best.safetensors"
"""Weights of the best network by validation, of the student alone, in the folder of a run."""

_FORMAT = "scholarch-distilled"


class StudentRun(TrainingRun):
    """Trains a student to its end, and keeps what is best on the validation part.

    Resumes are bit-exact, as a supernet's are; the test part is never read.

    Args:
        trainer: new.
        folder: of the run.
        progress: called after every step.
    """

    best_file: ClassVar[str] = STUDENT

    def __init__(
        self,
        trainer: StudentTrainer,
        folder: Path,
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._student = trainer
        super().__init__(trainer, folder, progress=progress)

    def best(self) -> nn.Module:
        """The best network so far, in eval mode, on the CPU.

        Raises:
            InvalidInputError: if there is none yet.
        """
        if self.folder is None:
            raise InvalidInputError("a run in memory keeps no network")
        plain = self._student.best_network()
        load_best(plain, self.folder / STUDENT, self._student.arch)
        return plain

    def _choose(self) -> Mapping[str, Architecture]:
        return {"student": self._student.arch}

    def _accuracies(self) -> list[float]:
        found = [self._student.accuracy("val")]
        self._student.network.train()
        return found

    def _keep(self) -> None:
        from safetensors.torch import save

        trainer = self._student
        if self.folder is None or not trainer.world.leads:
            return
        about: dict[str, Any] = {
            "format": _FORMAT,
            "arch": trainer.arch.to_json(),
            "next_step": trainer.next_step,
        }
        state = {k: v.contiguous() for k, v in trainer.best_network().state_dict().items()}
        content = save(state, metadata={"about": json.dumps(about)})
        write_atomic(self.folder / STUDENT, content)


def load_best(network: nn.Module, path: Path, arch: Architecture) -> None:
    """Read a distilled student's weights into a network of its architecture.

    Raises:
        InvalidInputError: if the file is missing, damaged or another architecture's.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            if about["format"] != _FORMAT or about["arch"]["key"] != arch.key:
                raise InvalidInputError(
                    f"{path} holds {about['arch']['text']!r}, not {arch.text!r}; give the folder"
                    " of its own run"
                )
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"no distilled student in {path}: {error}") from error
