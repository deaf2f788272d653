"""How once-for-all writes an architecture: ``ks``, ``e`` and ``d``, as JSON or as digits.

``{"ks": [7, 5, …], "e": [6, 3, …], "d": [2, 4, …]}`` is what its code passes around, with a
kernel and an expand ratio for every block, the inactive ones included, and a depth for every
stage. Published tables write ``ks=75…,e=63…,d=24…``, a digit a block. Both are read; JSON
without spaces is written, which once-for-all's ``set_active_subnet`` takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InvalidInputError
from ..literals import quoted, read_dict

__all__ = ["read", "write"]

Lists = dict[str, list[int] | None]
"""``ks``, ``e`` and ``d``; ``None`` where the text leaves one out."""


def write(kernels: Sequence[int], expands: Sequence[int], depths: Sequence[int]) -> str:
    """JSON without spaces, kernels and expand ratios by block, depths by stage."""
    lists = {"ks": list(kernels), "e": list(expands), "d": list(depths)}
    return json.dumps(lists, separators=(",", ":"))


def read(text: str, *, blocks: int, stages: int, width_mult: float) -> Lists:
    """The lists of an architecture in any of the notations.

    Args:
        text: JSON or a Python dict, whose entries are lists, digit strings or one number for
            all; or ``ks=…,e=…,d=…`` in digits; or those three digit strings alone. A
            resolution ``r`` is ignored, since it belongs to the loader; ``wid`` has to be
            empty or the space's width.
        blocks: length of ``ks`` and ``e``.
        stages: length of ``d``.
        width_mult: the space's.

    Raises:
        InvalidInputError: if it is none of these, or a list has another length.
    """
    entries = _entries(text)
    if unknown := sorted(set(entries) - {"ks", "e", "d", "r", "wid"}):
        raise InvalidInputError(
            f"unknown entry {unknown[0]!r} in {quoted(text)}; known: ks, e, d, r, wid"
        )
    wid = entries.get("wid")
    if any(w not in (None, 0, width_mult) for w in (wid if isinstance(wid, list) else [wid])):
        raise InvalidInputError(
            f"wid = {wid!r} in {quoted(text)}; this space has width_mult = {width_mult:g}"
        )
    lengths = {"ks": blocks, "e": blocks, "d": stages}
    return {name: _numbers(name, entries.get(name), n, text) for name, n in lengths.items()}


def _entries(text: str) -> Mapping[str, Any]:
    bare = re.fullmatch(r"([0-9]+),([0-9]+),([0-9]+)(?:,[0-9]+)?", text)
    if bare:
        return dict(zip(("ks", "e", "d"), bare.groups(), strict=True))
    if re.fullmatch(r"(?:[a-z]+=[0-9]+(?:[,; ]+|$))+", text):
        return dict(part.split("=") for part in re.split(r"[,; ]+", text) if part)
    entries = read_dict(text)
    if entries is not None and all(isinstance(key, str) for key in entries):
        return entries
    raise InvalidInputError(
        f"{quoted(text)} is no once-for-all architecture; write it like"
        ' {"ks": [7, 3, …], "e": [6, 4, …], "d": [2, 4, …]} or ks=73…,e=64…,d=24…'
    )


def _numbers(name: str, entry: Any, length: int, text: str) -> list[int] | None:
    """An entry as a list of whole numbers."""
    if entry is None:
        return None
    if isinstance(entry, str) and re.fullmatch("[0-9]+", entry):
        entry = [int(digit) for digit in entry]
    elif type(entry) is int:
        entry = [entry] * length
    if not isinstance(entry, list | tuple) or any(type(value) is not int for value in entry):
        raise InvalidInputError(f"{name} in {quoted(text)} is no list of whole numbers")
    if len(entry) != length:
        raise InvalidInputError(
            f"{name} in {quoted(text)} holds {len(entry)} numbers; this space needs {length}"
        )
    return list(entry)
