"""Students of text and sound leave as what they are: networks of token ids and of waveforms."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scholarch.search.shipping.inputs import Sequences, seeded_images
from scholarch.search.shipping.int8 import write_int8
from scholarch.search.shipping.onnx_file import write_onnx
from scholarch.search.shipping.program import write_program
from scholarch.search.student import VECTORS, Student, TrainedWeights
from scholarch.searchspace.errors import InvalidInputError
from scholarch.testing.light import light_space

SPACES = ["bert-from-teacher", "whisper-from-teacher", "lighthubert-small"]


def student_of(name: str, vectors: bool = False) -> Student:
    space = light_space(name, num_classes=4)
    # A shallow one: exporters take time by the layer, and all layers are alike.
    arch = min(space.sample(20, seed=0), key=lambda arch: space.cost([arch])["depth"][0])
    costs = {name: float(column[0]) for name, column in space.cost([arch]).items()}
    plain = Student(arch, space, costs, 0.5)
    if not vectors:
        return plain
    about = {"score": VECTORS, "data": "sentences", "by": "distilled"}
    weights = TrainedWeights(lambda: plain.module().eval(), {"val": 0.75, "test": 0.5}, about)
    return Student(arch, space, costs, 0.5, trained=weights)


@pytest.fixture(scope="module", params=SPACES)
def student(request: pytest.FixtureRequest) -> Student:
    return student_of(request.param)


def loaded(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_inputs_are_ids_and_waveforms() -> None:
    text, sound = Sequences("text", 12, 300), Sequences("sound", 400)
    ids, waves = seeded_images(5, text), seeded_images(5, sound)
    assert ids.dtype == torch.int64
    assert ids.shape == (5, 12)
    assert 0 <= int(ids.min()) <= int(ids.max()) < 300
    assert (ids == 0).any()
    assert waves.shape == (5, 400)
    assert -1.0 <= float(waves.min()) <= float(waves.max()) < 1.0
    assert torch.equal(ids, seeded_images(5, text))
    assert not torch.equal(waves, seeded_images(5, sound, seed=1))


def test_model_py_takes_what_the_network_does(student: Student, tmp_path: Path) -> None:
    student.save_pretrained(tmp_path)
    assert (tmp_path / "model.py").is_file(), (tmp_path / "README.md").read_text()
    module = loaded(tmp_path)
    network = module.load()
    for count in (1, 5):
        x = seeded_images(count, student.image, seed=count)
        with torch.inference_mode():
            expected = student.module().eval()(x)
        assert torch.equal(network(x.clone()), expected)
        assert torch.equal(module.predict(network, x.clone()), expected.softmax(dim=1))
    again = Student.from_pretrained(tmp_path).eval()
    assert torch.equal(again(x), student.module().eval()(x))
    card = (tmp_path / "README.md").read_text()
    image = student.image
    assert isinstance(image, Sequences)
    for words in (image.said, image.size, f"predict(network, {image.name})", "-classification"):
        assert words in card
    assert "image" not in card


def test_who_learned_vectors_gives_vectors(tmp_path: Path) -> None:
    student = student_of(SPACES[0], vectors=True)
    student.save_pretrained(tmp_path)
    module = loaded(tmp_path)
    x = seeded_images(3, student.image)
    with torch.inference_mode():
        assert torch.equal(module.predict(module.load(), x.clone()), student.module()(x))
    card = (tmp_path / "README.md").read_text()
    for words in ("feature-extraction", "vectors `[B, 4]`", "| val | 0.7500 |", "## Agreement"):
        assert words in card
    for words in ("logits", "| accuracy", "softmax", "image"):
        assert words not in card


@pytest.mark.parametrize("write", [write_onnx, write_program])
def test_files_take_any_batch_of_them(
    student: Student, tmp_path: Path, write: Callable[..., Any]
) -> None:
    if write is write_onnx:
        pytest.importorskip("onnxscript", reason="needs the extra onnx")
    network = student.module().eval()
    written = write(network, tmp_path / "student", student.image)
    assert set(written.errors) == {1, 2, 5}
    assert max(written.errors.values()) < 1e-4
    x = seeded_images(7, student.image, seed=9)
    found = torch.from_numpy(written.run(x))
    torch.testing.assert_close(found, network(x).detach(), rtol=1e-3, atol=1e-4)
    if write is write_onnx:
        import onnx

        graph = onnx.load(tmp_path / "student").graph
        (given,) = graph.input
        assert given.name == student.image.name
        kind = given.type.tensor_type
        integer = student.space.modality == "text"
        assert kind.elem_type == (onnx.TensorProto.INT64 if integer else onnx.TensorProto.FLOAT)
        assert kind.shape.dim[0].dim_param
        assert kind.shape.dim[1].dim_value == student.space.resolution


def test_int8_is_for_images(student: Student, tmp_path: Path) -> None:
    network, nothing = student.module().eval(), None
    with pytest.raises(InvalidInputError, match="onnx-int8 is for networks of images, this one"):
        write_int8(network, tmp_path / "x", student.image, nothing)
