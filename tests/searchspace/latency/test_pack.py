"""Packs of ONNX files: what is in them, and that every file runs at every shape named."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scholarch.searchspace import create_space
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.latency.cut import Chunk
from scholarch.searchspace.latency.manifest import Manifest, read_manifest
from scholarch.searchspace.latency.pack import _Exporter, pack
from scholarch.searchspace.latency.table import pixels_of
from scholarch.searchspace.latency.tools.base import list_tools

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

SIDES = (16, 24)


@pytest.fixture(scope="module")
def folder(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(packed, tmp_path_factory.mktemp("pack") / "copy"))


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return read_manifest(folder)


def test_one_file_a_structure_for_all_shapes(manifest: Manifest) -> None:
    assert sorted(manifest.plans) == list(SIDES)
    keys = {block.key for plan in manifest.plans.values() for block in plan.blocks}
    assert manifest.blocks.keys() == keys
    structures = {pixels_of(key)[1] for key in keys}
    timings = {timing.name: timing for timing in manifest.timings}
    files = {timings[name].file for name in manifest.blocks.values() if name is not None}
    assert len(files) == len(structures)
    for key, name in manifest.blocks.items():
        assert name is not None
        given = key.partition(" ")[0].split("x")
        assert timings[name].shape == (1, *map(int, given))
        assert timings[name].free == (len(given) == 3)


def test_height_and_width_are_free_and_called_the_same(folder: Path, manifest: Manifest) -> None:
    for timing in manifest.timings:
        (x,) = onnx.load(folder / timing.file).graph.input
        assert x.name == "x"
        dims = [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim]
        batch, channels, *rest = timing.shape
        assert dims == [batch, channels, *(["side"] * 2 if timing.free else rest)]


def test_every_file_runs_at_its_shapes(folder: Path, manifest: Manifest) -> None:
    for timing in manifest.timings:
        session = onnxruntime.InferenceSession(
            folder / timing.file, providers=["CPUExecutionProvider"]
        )
        (out,) = session.run(None, {"x": np.ones(timing.shape, dtype=np.float32)})
        assert np.isfinite(out).all()
        # No map is brought out, which could cost more than the block.
        assert out.ndim == 2 or timing.name == manifest.call


def test_networks_are_whole_and_grow(folder: Path, manifest: Manifest) -> None:
    for side in SIDES:
        space = create_space("resnet-cifar-s0", resolution=side)
        chosen = [network for network in manifest.networks if network.resolution == side]
        archs = [space.parse(network.arch) for network in chosen]
        assert [list(arch.choices) for arch in archs] == [list(n.row) for n in chosen]
        macs = space.cost(archs)["macs"]
        assert len(chosen) == 4
        assert (np.diff(macs) > 0).all()
        assert macs[0] == space.cost(space.enumerate_matrix())["macs"].min()
        assert macs[-1] == space.cost(space.enumerate_matrix())["macs"].max()
        timing = next(t for t in manifest.timings if t.name == chosen[0].timing)
        model = onnx.load(folder / timing.file)
        weights = sum(int(np.prod(array.dims)) for array in model.graph.initializer)
        # Running statistics are there, or folded away with their batch norm.
        assert weights == pytest.approx(space.cost(archs[:1])["params"][0], rel=0.05)


def test_the_manifest_is_read_as_it_was_written(folder: Path, manifest: Manifest) -> None:
    said = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest.to_json() == said
    assert manifest.space == create_space("resnet-cifar-s0", resolution=SIDES[0]).spec()


def test_equal_packs_have_equal_bytes(folder: Path, tmp_path: Path) -> None:
    pack(create_space("resnet-cifar-s0"), tmp_path, resolutions=SIDES[:1], networks=3)
    pack(create_space("resnet-cifar-s0"), tmp_path / "b", resolutions=SIDES[:1], networks=3)
    names = [p.relative_to(tmp_path / "b") for p in (tmp_path / "b").rglob("*") if p.is_file()]
    assert len(names) > 10
    for name in names:
        assert (tmp_path / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_times_csv_lists_every_timing_once(folder: Path, manifest: Manifest) -> None:
    with (folder / "times.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["file"] for line in lines] == [timing.file for timing in manifest.timings]
    assert all(line["ms"] == "" for line in lines)
    count = Counter((line["file"], line["height"], line["width"]) for line in lines)
    assert set(count.values()) == {1}


@pytest.mark.parametrize("tool", list_tools())
def test_scripts_time_what_has_no_result(folder: Path, manifest: Manifest, tool: str) -> None:
    script = folder / f"time-{tool}.sh"
    results = folder / "results"
    kept = manifest.timings[1].name
    (results / f"{kept}.txt").write_text("kept\n", encoding="utf-8")
    try:
        run = {"cwd": "/", "check": True, "capture_output": True}
        command = ["sh", str(script)]
        subprocess.run(command, env={"PATH": "/usr/bin:/bin", "TOOL": "echo -- two"}, **run)
        assert (results / f"{kept}.txt").read_text(encoding="utf-8") == "kept\n"
        assert {p.name for p in results.iterdir()} == {f"{t.name}.txt" for t in manifest.timings}
        said = (results / f"{manifest.timings[-1].name}.txt").read_text(encoding="utf-8")
        assert said.startswith("-- two ")
        assert Path(manifest.timings[-1].file).stem in said
        for path in results.iterdir():
            path.unlink()
        subprocess.run(command, env={"PATH": "/usr/bin:/bin", "TOOL": "false"}, **run)
        assert not list(results.glob("*.txt"))
    finally:
        for path in results.iterdir():
            path.unlink()


def test_the_readme_tells_how(folder: Path) -> None:
    text = (folder / "README.txt").read_text(encoding="utf-8")
    for tool in list_tools():
        assert f"sh time-{tool}.sh" in text
    assert "16 × 16, 24 × 24" in text
    assert "scholarch latency import" in text
    assert (folder / "convert-benchmark_model.sh").exists()
    assert not (folder / "convert-trtexec.sh").exists()


def test_a_folder_with_a_pack_and_numbers_out_of_range_are_refused(folder: Path) -> None:
    space = create_space("resnet-cifar-s0")
    with pytest.raises(InvalidInputError, match="holds a pack; choose another folder"):
        pack(space, folder)
    with pytest.raises(InvalidInputError, match="2 networks, batch 1; need at least 3 and 1"):
        pack(space, folder / "new", networks=2)
    with pytest.raises(InvalidInputError, match="batch 0"):
        pack(space, folder / "new", batch=0)
    with pytest.raises(InvalidInputError, match="cannot write the pack"):
        pack(space, folder / "README.txt")
    assert not (folder / "new").exists()


def test_manifests_that_are_none_are_refused(folder: Path, tmp_path: Path) -> None:
    said = (folder / "manifest.json").read_text(encoding="utf-8")
    data = json.loads(said)
    file = tmp_path / "manifest.json"
    with pytest.raises(InvalidInputError, match="is no pack: it lacks manifest.json"):
        read_manifest(tmp_path)
    lacking: dict[str, Any] = {**data, "files": data["files"][:3]}
    for text, why in (
        (said[:1000], "is no JSON, or was cut short"),
        (json.dumps({**data, "format": "other"}), "is no manifest"),
        (json.dumps({**data, "version": 99}), "has version 99"),
        (json.dumps({k: v for k, v in data.items() if k != "plans"}), "lacks 'plans'"),
        (json.dumps(lacking), "lacks '"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InvalidInputError, match=why):
            read_manifest(tmp_path)


# ---------------------------------------------------------------------- single blocks


class Repeat(nn.Module):
    """Takes a number beside its tensor."""

    def forward(self, x: Tensor, times: int) -> Tensor:
        for _ in range(times):
            x = torch.relu(x - 1.0)
        return x


class Baked(nn.Module):
    """What tracing makes a constant of."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(int(x.shape[2]), int(x.shape[3]))


def exported(tmp_path: Path, chunk: Chunk, shapes: dict[str, tuple[int, ...]]) -> _Exporter:
    (tmp_path / "blocks").mkdir()
    exporter = _Exporter(tmp_path, shapes)
    assert exporter._structure(chunk) == set(shapes)
    return exporter


def test_what_does_nothing_takes_no_time_and_no_file(tmp_path: Path) -> None:
    shapes = {"4x8x8 identity": (1, 4, 8, 8), "4x6x6 identity": (1, 4, 6, 6)}
    chunk = Chunk("a", [nn.Identity(), nn.Dropout()], [1, 1], (torch.zeros(1, 4, 8, 8),))
    chunk.key = "4x8x8 identity"
    exporter = exported(tmp_path, chunk, shapes)
    assert exporter.names == dict.fromkeys(shapes)
    assert not list((tmp_path / "blocks").iterdir())


def test_numbers_beside_the_tensor_are_filled_in(tmp_path: Path) -> None:
    key = "4x8x8,3 repeat"
    chunk = Chunk("a", [Repeat()], [1], (torch.zeros(1, 4, 8, 8), 3), key)
    (timing,) = exported(tmp_path, chunk, {key: (1, 4, 8, 8)}).timings
    model = onnx.load(tmp_path / timing.file)
    assert [node.op_type for node in model.graph.node].count("Relu") == 3


def test_two_tensors_are_refused() -> None:
    x = torch.zeros(1, 4, 8, 8)
    with pytest.raises(InvalidInputError, match="'a.b' takes 2 tensors"):
        _Exporter(Path(), {})._structure(Chunk("a.b", [nn.Identity()], [1], (x, x)))


def test_a_graph_of_one_shape_alone_is_exported_for_each(tmp_path: Path) -> None:
    shapes = {"4x8x8 baked": (1, 4, 8, 8), "4x6x6 baked": (1, 4, 6, 6)}
    chunk = Chunk("a", [Baked()], [1], (torch.zeros(1, 4, 8, 8),), "4x8x8 baked")
    timings = exported(tmp_path, chunk, shapes).timings
    assert len({timing.file for timing in timings}) == 2
    for timing in timings:
        assert not timing.free
        session = onnxruntime.InferenceSession(tmp_path / timing.file)
        session.run(None, {"x": np.zeros(timing.shape, dtype=np.float32)})


def test_maps_that_are_no_squares_have_two_names(tmp_path: Path) -> None:
    key = "4x8x6 relu"
    chunk = Chunk("a", [nn.ReLU()], [1], (torch.zeros(1, 4, 8, 6),), key)
    (timing,) = exported(tmp_path, chunk, {key: (1, 4, 8, 6)}).timings
    (x,) = onnx.load(tmp_path / timing.file).graph.input
    names = [d.dim_param for d in x.type.tensor_type.shape.dim]
    assert names[2:] == ["height", "width"]
