"""Plain data out of a pickle, without ever unpickling.

A pickle is a program: unpickling runs whatever it names. Some data sets are published as
pickles all the same, so this module *reads* the program with :func:`pickletools.genops`,
which decodes opcodes and executes nothing, and follows those alone that spell out dicts,
lists, tuples, strings, bytes, numbers and numpy arrays. What it calls is in this file; any
other global is refused by name.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..searchspace.errors import InvalidInputError

__all__ = ["parse_plain_pickle"]

#: Numbers of fixed size, little-endian or of one byte; anything else is no image or label.
_CODE = re.compile(r"[biuf][1248]")
_ORDERS = ("<", "|", "=")
MAX_RANK = 4


class _RefusedError(Exception):
    """A pickle that is well formed but holds more than plain data."""


@dataclass(slots=True, eq=False)
class _DType:
    """numpy's number type, of which the byte order comes later."""

    code: str
    order: str = "|"


@dataclass(slots=True, eq=False)
class _Array:
    """A numpy array, of which the contents come later."""

    value: npt.NDArray[Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Global:
    """A name that a pickle may call, and what stands for it here."""

    call: Callable[..., Any] | None


def _new_array(_: Any, shape: Any, code: Any) -> _Array:
    if shape != (0,) or code not in (b"b", "b"):
        raise ValueError("an array that numpy did not write")
    return _Array()


def _new_dtype(code: Any, *_: Any) -> _DType:
    text = code.decode("latin-1") if isinstance(code, bytes) else code
    if not isinstance(text, str) or not _CODE.fullmatch(text):
        raise _RefusedError("an array of something else than numbers")
    return _DType(text)


def _encode(text: Any, codec: Any) -> bytes:
    # How Python 3 writes bytes for Python 2.
    if not isinstance(text, str) or codec not in ("latin1", b"latin1"):
        raise _RefusedError("text in an unknown encoding")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    return b""  # has a spelling of its own


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    return _Array(_as_array(raw, dtype, shape, order in ("F", b"F")))


def _as_array(raw: Any, dtype: Any, shape: Any, fortran: bool) -> npt.NDArray[Any]:
    """The array that numpy's own loader would have made of the same pieces."""
    if not isinstance(raw, bytes) or not isinstance(dtype, _DType) or not isinstance(shape, tuple):
        raise ValueError("an array that numpy did not write")
    if dtype.order not in _ORDERS:
        raise _RefusedError("an array of big-endian numbers")
    if len(shape) > MAX_RANK or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("an array of no usual shape")
    kind = np.dtype(dtype.code).newbyteorder("<")
    if math.prod(shape) * kind.itemsize != len(raw):
        raise ValueError("an array of more or fewer bytes than its shape has")
    return np.frombuffer(raw, kind).reshape(shape, order="F" if fortran else "C")


#: Every global that is followed. None of the real ones is ever imported.
_GLOBALS: Final = {
    "_codecs encode": _Global(_encode),
    "__builtin__ bytes": _Global(_no_bytes),
    "numpy ndarray": _Global(None),  # an argument only, never called
    "numpy dtype": _Global(_new_dtype),
    "numpy.core.multiarray _reconstruct": _Global(_new_array),
    "numpy._core.multiarray _reconstruct": _Global(_new_array),
    "numpy.core.numeric _frombuffer": _Global(_from_buffer),
    "numpy._core.numeric _frombuffer": _Global(_from_buffer),
}

_MARK: Final = object()

#: Opcodes whose argument is the value.
_VALUES = frozenset(
    {
        *("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    }
)
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
#: Python 2's strings, bytes in truth; genops gives them as Latin-1.
_OLD_STRINGS = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING"})
_TUPLES: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_IDLE = frozenset({"PROTO", "FRAME", "STOP"})


class _Reader:
    """A stack machine for the opcodes of plain data."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, arg: Any) -> None:
        """Follow one opcode."""
        stack = self.stack
        if name in _VALUES:
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _OLD_STRINGS:
            stack.append(arg.encode("latin-1"))
        elif name == "BYTEARRAY8":
            stack.append(bytes(arg))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(self._pop_to_mark()))
        elif name == "LIST":
            stack.append(self._pop_to_mark())
        elif name == "DICT":
            items = self._pop_to_mark()
            stack.append({})
            self._set(items)
        elif name in ("APPEND", "APPENDS"):
            items = self._pop(1) if name == "APPEND" else self._pop_to_mark()
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            self._set(self._pop(2) if name == "SETITEM" else self._pop_to_mark())
        elif name in _PUTS:
            self.memo[int(arg)] = self._top(object)
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self._top(object)
        elif name in _GETS:
            stack.append(self.memo[int(arg)])
        elif name == "GLOBAL":
            stack.append(_find(arg))
        elif name == "STACK_GLOBAL":
            words = self._pop(2)
            if not all(isinstance(word, str) for word in words):
                raise ValueError("a global without a name")
            stack.append(_find(" ".join(words)))
        elif name == "REDUCE":
            self._call()
        elif name == "BUILD":
            self._build(*self._pop(1))
        elif name in ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"):
            raise _RefusedError(f"an object of a class ({arg or name})")
        elif name not in _IDLE:
            raise _RefusedError(f"more than numbers and text (opcode {name})")

    def _top(self, kind: type[Any]) -> Any:
        if not self.stack or self.stack[-1] is _MARK or not isinstance(self.stack[-1], kind):
            raise ValueError(f"no {kind.__name__} where one belongs")
        return self.stack[-1]

    def _pop(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        if len(items) < count or _MARK in items:
            raise ValueError("too few values")
        del self.stack[-count:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        # From the end: a list comes in batches of a thousand, and marks lie close by.
        place = next(i for i in range(len(self.stack) - 1, -1, -1) if self.stack[i] is _MARK)
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _set(self, items: list[Any]) -> None:
        target, keys = self._top(dict), items[::2]
        if not all(isinstance(key, str | bytes | int) for key in keys):
            raise _RefusedError("a dict with keys that are no text")
        target.update(zip(keys, items[1::2], strict=True))

    def _call(self) -> None:
        function, args = self._pop(2)
        if not isinstance(function, _Global) or function.call is None:
            raise _RefusedError("a call of something that is no function")
        if not isinstance(args, tuple):
            raise ValueError("a call without arguments")
        self.stack.append(function.call(*args))

    def _build(self, state: Any) -> None:
        target = self._top(object)
        if isinstance(target, _DType) and isinstance(state, tuple):
            order = state[1]
            target.order = order.decode("latin-1") if isinstance(order, bytes) else order
        elif isinstance(target, _Array) and isinstance(state, tuple):
            _, shape, dtype, fortran, raw = state
            target.value = _as_array(raw, dtype, shape, bool(fortran))
        else:
            raise _RefusedError("an object with a state of its own")


def _find(name: str) -> _Global:
    if name not in _GLOBALS:
        # The name is the file's own text: one short line of it, whatever it holds.
        raise _RefusedError(f"a reference to {ascii(name.replace(' ', '.'))[1:-1][:80]}")
    return _GLOBALS[name]


def parse_plain_pickle(raw: bytes, what: str) -> dict[str, Any]:
    """The dict that a pickle spells out; nothing in it is executed.

    Args:
        raw: the pickle, of any protocol.
        what: where it comes from, for messages.

    Returns:
        Values by key; keys as text, arrays as arrays, Python 2's strings as bytes.

    Raises:
        InvalidInputError: if the pickle is damaged, or holds anything but plain data.
    """
    reader = _Reader()
    try:
        for opcode, arg, _ in pickletools.genops(raw):
            reader.step(opcode.name, arg)
        (result,) = reader.stack
        if not isinstance(result, dict):
            raise _RefusedError(f"a {type(result).__name__} in place of a dict")
        return {_text(key): _finished(value) for key, value in result.items()}
    except _RefusedError as error:
        raise InvalidInputError(
            f"{what} holds {error}; only plain data is read from a pickle, and nothing was run"
        ) from error
    # What following a damaged program comes to; all of these are this file's own steps.
    except (ValueError, TypeError, LookupError, StopIteration, OverflowError) as error:
        raise InvalidInputError(f"{what} is damaged or no pickle of plain data") from error


def _text(key: str | bytes | int) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def _finished(value: Any) -> Any:
    if not isinstance(value, _Array):
        return value
    if value.value is None:
        raise ValueError("an array without contents")
    return value.value
