from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from scholarch.data import load_batch
from scholarch.searchspace.errors import InvalidInputError
from scholarch.teacher import load_teacher
from scholarch.teachers.timm_import import import_timm


def refused(
    match: str, *given: Any, error: type[Exception] = InvalidInputError, **options: Any
) -> None:
    with pytest.raises(error, match=match) as caught:
        load_teacher(*given, **options)
    assert "\n" not in str(caught.value)


def test_timm_untrained() -> None:
    options: dict[str, Any] = {"untrained": True, "num_classes": 10, "seed": 2}
    teacher = load_teacher("regnetx_002", **options)
    assert (teacher.num_classes, teacher.resize) == (10, 224)
    assert teacher.mean == (0.485, 0.456, 0.406)
    assert teacher.fingerprint == load_teacher("regnetx_002", **options).fingerprint
    small = load_teacher("regnetx_002", **options, resize=64)
    assert small.observe(load_batch("digits", 4)).final_map.shape == (4, 368, 2, 2)
    assert load_teacher("regnetx_002", **options, resize=0).resize is None


def test_a_transformer_of_fixed_input_size_is_made_for_the_size_asked() -> None:
    teacher = load_teacher("vit_tiny_patch16_224", untrained=True, resize=64)
    taps = teacher.observe(load_batch("digits", 4))
    assert taps.final_map.shape == (4, 192, 4, 4)
    assert teacher.macs is not None


def test_timm_with_weights_of_a_file(tmp_path: Path) -> None:
    made = load_teacher("mobilenetv3_small_050", untrained=True, num_classes=7, seed=5)
    save_file(dict(made.module.state_dict()), tmp_path / "w.safetensors")
    teacher = load_teacher("mobilenetv3_small_050", weights=tmp_path / "w.safetensors")
    assert teacher.num_classes == 7, "told by the checkpoint"
    assert teacher.trained
    assert torch.equal(teacher.module.classifier.weight, made.module.classifier.weight)
    refused("does not fit teacher 'resnet18'", "resnet18", weights=tmp_path / "w.safetensors")


def test_timm_without_a_network_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> socket.socket:
        raise OSError("no route")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    refused("weights are on .*cannot be reached; give .*--weights FILE, or --unt", "resnet26t")
    timm = import_timm()
    trained = {name.split(".")[0] for name in timm.list_models(pretrained=True)}
    without = min(set(timm.list_models()) - trained)
    refused("timm has no trained weights for it; .*--untrained", without)


def test_the_cure_for_torchvision_leaves_a_healthy_install_alone(tmp_path: Path) -> None:
    for name in ("torchvision", "timm"):
        (tmp_path / f"{name}.py").write_text("")
    code = (
        "from scholarch.teachers import timm_import\n"
        "assert timm_import.import_timm().__name__ == 'timm'\n"
        "assert not timm_import._libraries\n"
    )
    path = [str(tmp_path), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
