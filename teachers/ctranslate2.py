"""CTranslate2's ``model.bin``, read without the library and without running anything in it.

Version 6, as CTranslate2 3 and 4 write it, little-endian throughout: the version (u32), the
name of the specification (string), its revision (u32), the number of variables (u32), then of
each its name (string), rank (u8), sizes (u32 each), type (u8), number of bytes (u32) and bytes;
last the number of aliases (u32) and of each two strings, a name and the variable it stands for.
A string is its length (u16, the closing zero counted), its bytes and a zero.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ..searchspace.errors import InvalidInputError

__all__ = ["Ct2Model", "read_ct2"]

VERSION = 6
#: By the number that stands for them in a file.
TYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
MOST_VARIABLES = 100_000
MOST_DIMENSIONS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Ct2Model:
    """What a file holds.

    Attributes:
        spec: name of the specification, e.g. ``"WhisperSpec"``.
        revision: of the specification.
        tensors: by name, parts joined by ``/``, of the types they have in the file; an alias
            has the tensor it stands for.
    """

    spec: str
    revision: int
    tensors: dict[str, Tensor]


def read_ct2(path: Path) -> Ct2Model:
    """Read a CTranslate2 ``model.bin`` of version 6.

    Raises:
        InvalidInputError: if it is missing, of another version, ends early, says something
            impossible, or goes on behind its end.
    """
    what = f"CTranslate2 file {str(path)!r}"
    try:
        with path.open("rb") as file:
            return _Reader(file, path.stat().st_size, what).read()
    except OSError as error:
        raise InvalidInputError(f"{what} cannot be read: {error.strerror}") from error


class _Reader:
    def __init__(self, file: BinaryIO, size: int, what: str) -> None:
        self.file, self.left, self.what = file, size, what

    def read(self) -> Ct2Model:
        version = self.number("I", "its version")
        if version != VERSION:
            raise InvalidInputError(
                f"{self.what} is of binary version {version}; need {VERSION}, which CTranslate2 3"
                " and 4 write"
            )
        spec, revision = self.string("its specification"), self.number("I", "its revision")
        tensors: dict[str, Tensor] = {}
        for index in range(self.count("variables")):
            name = self.string(f"the name of variable {index}")
            if name in tensors:
                raise self.damaged(f"variable {name!r} comes twice")
            tensors[name] = self.tensor(name)
        aliases: dict[str, str] = {}
        for index in range(self.count("aliases")):
            alias = self.string(f"the name of alias {index}")
            aliases[alias] = self.string(f"the variable of alias {alias!r}")
        if self.left:
            bytes_ = "byte" if self.left == 1 else "bytes"
            raise self.damaged(f"it goes on for {self.left} {bytes_} behind its end")
        for alias, name in aliases.items():
            if name not in tensors or alias in tensors:
                raise self.damaged(f"alias {alias!r} stands for {name!r}, which is no variable")
        tensors |= {alias: tensors[name] for alias, name in aliases.items()}
        return Ct2Model(spec, revision, tensors)

    def tensor(self, name: str) -> Tensor:
        rank = self.number("B", f"the rank of {name!r}")
        if rank > MOST_DIMENSIONS:
            raise self.damaged(f"variable {name!r} has {rank} dimensions")
        shape = [self.number("I", f"the shape of {name!r}") for _ in range(rank)]
        kind = self.number("B", f"the type of {name!r}")
        if kind >= len(TYPES):
            raise self.damaged(f"variable {name!r} is of type {kind}, not 0 to {len(TYPES) - 1}")
        size = self.number("I", f"the size of {name!r}")
        if size != math.prod(shape) * TYPES[kind].itemsize:
            raise self.damaged(f"variable {name!r} of shape {shape} has {size} bytes")
        data = bytearray(self.take(size, f"variable {name!r}"))
        if not size:
            return torch.empty(shape, dtype=TYPES[kind])
        value = torch.frombuffer(data, dtype=TYPES[kind]).reshape(shape)
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise InvalidInputError(f"{self.what}: variable {name!r} is not finite")
        return value

    def count(self, of: str) -> int:
        count = self.number("I", f"its number of {of}")
        if count > MOST_VARIABLES:
            raise self.damaged(f"it says it holds {count} {of}")
        return count

    def string(self, what: str) -> str:
        length = self.number("H", what)
        data = self.take(length, what)
        if not data.endswith(b"\0"):
            raise self.damaged(f"{what} is no string")
        try:
            return data[:-1].decode()
        except UnicodeDecodeError as error:
            raise self.damaged(f"{what} is no string") from error

    def number(self, code: str, what: str) -> int:
        layout = struct.Struct(f"<{code}")
        return int(layout.unpack(self.take(layout.size, what))[0])

    def take(self, size: int, what: str) -> bytes:
        # Before reading, lest an absurd size asks for as much memory.
        data = self.file.read(size) if size <= self.left else b""
        if len(data) != size:
            raise self.damaged(f"it ends within {what}")
        self.left -= size
        return data

    def damaged(self, why: str) -> InvalidInputError:
        return InvalidInputError(f"{self.what} is damaged or no CTranslate2 model: {why}")
