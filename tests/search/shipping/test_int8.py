"""int8: real accuracies of the written file, calibrated on training images alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scholarch.datasets.arrays import Part
from scholarch.datasets.dataset import DataSet
from scholarch.exporting import export_student
from scholarch.search.shipping.int8 import Normalised, write_int8
from scholarch.search.student import Student
from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.evaluate import accuracy, part_batches


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, trained: Student, patches: DataSet
) -> tuple[Path, Any]:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("int8")
    return folder, export_student(trained, folder / "a.onnx", kind="onnx-int8", data=patches)


def test_accuracies_are_those_of_the_files(
    exported: tuple[Path, Any], trained: Student, patches: DataSet
) -> None:
    import onnx
    import onnxruntime

    folder, told = exported
    session = onnxruntime.InferenceSession(str(folder / "a.onnx"))
    assert set(told.accuracy) == {"val", "test"}
    for part in ("val", "test"):
        ((images, labels),) = part_batches(patches, part)
        (logits,) = session.run(None, {"images": images.numpy()})
        assert told.accuracy[part]["int8"] == (logits.argmax(1) == labels.numpy()).mean()
        assert told.accuracy[part]["float"] == accuracy(trained.module(), [(images, labels)])
        assert told.accuracy[part]["float"] > 0.9
        assert abs(told.accuracy[part]["float"] - told.accuracy[part]["int8"]) < 0.05
    assert set(told.latency) == {"torch", "onnxruntime", "onnxruntime int8"}
    assert told.bytes == (folder / "a.onnx").stat().st_size
    assert [item.name for item in folder.iterdir()] == ["a.onnx"]
    graph = onnx.load(folder / "a.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert "BatchNormalization" not in kinds  # folded
    assert kinds.count("DequantizeLinear") > kinds.count("Conv") > 5
    weights = {tuple(t.dims): t for t in graph.initializer if len(t.dims) == 4}
    assert {t.data_type for t in weights.values()} == {onnx.TensorProto.INT8}


def test_neither_validation_nor_test_images_decide_a_scale(
    exported: tuple[Path, Any], trained: Student, patches: DataSet, tmp_path: Path
) -> None:
    folder, _ = exported
    other = Part(255 - patches.test.images, patches.test.labels)
    data = DataSet(**{**vars(patches), "val": other, "test": other})
    images = Normalised(data, data.mean, data.std)
    found = write_int8(trained.module(), tmp_path / "b.onnx", trained.image, images)
    assert (tmp_path / "b.onnx").read_bytes() == (folder / "a.onnx").read_bytes()
    assert found.accuracy["test"]["float"] < 0.9


def test_a_loss_is_told_with_what_can_be_done(
    trained: Student, patches: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scholarch import exporting
    from scholarch.search.shipping.int8 import Quantised

    for lost, said in ((0.008, False), (0.03, True)):
        small = Quantised(
            {"val": {"float": 0.9, "int8": 0.9 - lost}, "test": {"float": 0.9, "int8": 0.91}},
            {"float": 4, "int8": 1},
            {"float": lambda x: x, "int8": lambda x: x},  # type: ignore[dict-item]
        )
        monkeypatch.setattr(exporting, "write_int8", lambda *a, small=small, **k: small)
        found = export_student(trained, tmp_path / "a", kind="onnx-int8", data=patches)
        assert any("3.0 points" in note for note in found.notes) is said


def test_data_that_do_not_fit_are_refused(
    trained: Student, patches: DataSet, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    def export(student: Student, **options: Any) -> None:
        export_student(student, tmp_path / "a", kind="onnx-int8", **options)

    with pytest.raises(InvalidInputError, match="needs data"):
        export(trained)
    with pytest.raises(InvalidInputError, match=r"classes: 3, data 'patches' 4; pixels a side: 16"):
        export(make_student(num_classes=3, resolution=16), data=patches)
    with pytest.raises(InvalidInputError, match="calibration = 0"):
        export(trained, data=patches, calibration=0)
    assert list(tmp_path.iterdir()) == []
