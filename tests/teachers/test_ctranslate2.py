"""Whisper's encoder out of a CTranslate2 file, and files that are damaged."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.transformers.mel_stem import sinusoids
from scholarch.teachers.ctranslate2 import TYPES, read_ct2
from scholarch.teachers.whisper import convert_whisper_ct2

Tensors = dict[str, torch.Tensor]


def string(text: str) -> bytes:
    return struct.pack("<H", len(text.encode()) + 1) + text.encode() + b"\0"


def variable(name: str, value: torch.Tensor) -> bytes:
    sizes = struct.pack(f"<B{value.dim()}I", value.dim(), *value.shape)
    data = value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return string(name) + sizes + struct.pack("<BI", TYPES.index(value.dtype), len(data)) + data


def file_of(tensors: Tensors, aliases: dict[str, str] | None = None, **say: Any) -> bytes:
    """A file as CTranslate2's documentation of its converter describes it."""
    head = struct.pack("<I", say.get("version", 6)) + string(say.get("spec", "WhisperSpec"))
    head += struct.pack("<II", 3, say.get("count", len(tensors)))
    body = b"".join(variable(name, value) for name, value in tensors.items())
    pairs = aliases or {}
    tail = b"".join(string(alias) + string(name) for alias, name in pairs.items())
    return head + body + struct.pack("<I", len(pairs)) + tail


def whisper(dim: int = 8, heads: int = 2, bands: int = 80, positions: int = 30) -> Tensors:
    """A tiny encoder by CTranslate2's names, half precision."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"conv1": (dim, bands, 3), "conv2": (dim, dim, 3)}
    for i in range(2):
        for name, shape in {
            "self_attention/layer_norm": (dim,),
            "self_attention/linear_0": (3 * dim, dim),
            "self_attention/linear_1": (dim, dim),
            "ffn/layer_norm": (dim,),
            "ffn/linear_0": (4 * dim, dim),
            "ffn/linear_1": (dim, 4 * dim),
        }.items():
            shapes[f"layer_{i}/{name}"] = shape
    shapes["layer_norm"] = (dim,)
    found: Tensors = {}
    for name, shape in shapes.items():
        parts = ("gamma", "beta") if len(shape) == 1 else ("weight", "bias")
        for part, size in zip(parts, (shape, shape[:1]), strict=True):
            value = torch.randn(size, generator=generator) * 0.1
            found[f"encoder/{name}/{part}"] = value.half()
    found["encoder/position_encodings/encodings"] = sinusoids(positions, dim).half()
    found["encoder/num_heads"] = torch.tensor(heads, dtype=torch.int16)
    return found


def written(folder: Path, data: bytes) -> Path:
    path = folder / "model.bin"
    path.write_bytes(data)
    return path


def test_every_type_and_an_alias(tmp_path: Path) -> None:
    tensors = {f"a/{t}": torch.arange(6).view(2, 3).to(t) for t in TYPES}
    tensors |= {"scalar": torch.tensor(7, dtype=torch.int32), "empty": torch.zeros(0, 2)}
    model = read_ct2(written(tmp_path, file_of(tensors, {"b": "scalar"}, spec="X")))
    assert (model.spec, model.revision) == ("X", 3)
    assert {*model.tensors} == {*tensors, "b"}
    for name, value in tensors.items():
        assert torch.equal(model.tensors[name], value)
        assert model.tensors[name].dtype == value.dtype
    assert torch.equal(model.tensors["b"], tensors["scalar"])


ONE = {"w": torch.ones(2, 3)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends within its version"),
        (b"PK\x03\x04 a zip", "binary version 67324752; need 6"),
        (file_of(ONE, version=5), "binary version 5; need 6"),
        (file_of(ONE)[:-5], "ends within"),
        (file_of(ONE)[:30], "ends within"),
        (file_of(ONE) + b"x", "goes on for 1 byte behind its end"),
        (file_of(ONE, count=2), "the name of variable 1 is no string"),
        (file_of(ONE, count=2**31), "says it holds 2147483648 variables"),
        (file_of(ONE, {"b": "v"}), "alias 'b' stands for 'v', which is no variable"),
        (file_of({"w": torch.tensor([1.0, float("nan")])}), "'w' is not finite"),
        (file_of(ONE).replace(b"w\0\x02", b"w\0\x63"), "has 99 dimensions"),
        (file_of(ONE).replace(b"\x03\0\0\0\0\x18", b"\x03\0\0\0\x09\x18"), "is of type 9"),
        (file_of(ONE).replace(b"\0\x18\0\0\0", b"\0\x19\0\0\0"), r"shape \[2, 3\] has 25 bytes"),
        (file_of(ONE).replace(b"Whisper", b"Whi\xff\xfeer"), "its specification is no string"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_files(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_ct2(written(tmp_path, data))
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="No such file"):
        read_ct2(tmp_path / "nowhere.bin")


def test_a_whisper(tmp_path: Path) -> None:
    tensors = whisper()
    encoder = convert_whisper_ct2(written(tmp_path, file_of(tensors))).build()
    assert encoder.shape.dim == 8
    assert [(one.heads, one.ffn) for one in encoder.shape.layers] == [(2, 32), (2, 32)]
    weights = encoder.state_dict()
    fused = tensors["encoder/layer_1/self_attention/linear_0/weight"]
    assert torch.equal(weights["layers.1.qkv.weight"], fused.float())
    assert torch.equal(weights["norm.bias"], tensors["encoder/layer_norm/beta"].float())
    assert torch.equal(weights["stem.positions"], sinusoids(30, 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder/num_heads": torch.tensor(3, dtype=torch.int16)}, "3 heads do not divide"),
        ({"encoder/layer_0/ffn/linear_1/bias": torch.zeros(9)}, r"is \[9\], its config"),
        ({"encoder/conv1/weight": None}, "d_model = None"),
        ({"encoder/layer_1/ffn/layer_norm/beta": None}, "holds no tensor"),
        ({"encoder/num_heads": None}, "holds a WhisperSpec; need a Whisper"),
        (
            {"encoder/layer_0/self_attention/linear_0/weight": torch.ones(24, 8).char()},
            "quantised to int8",
        ),
    ],
)
def test_no_whisper(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    tensors = {k: v for k, v in (whisper() | change).items() if v is not None}
    with pytest.raises(InvalidInputError, match=message) as caught:
        convert_whisper_ct2(written(tmp_path, file_of(tensors)))
    assert "\n" not in str(caught.value)
