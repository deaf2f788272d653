"""Blocks as ONNX files, to be timed on a device without Python by the device's own tool.

Each structure is one file with free height and width, not one a shape; a few whole networks and a
graph that does almost nothing tell what calling and joining blocks costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InvalidInputError
from ..factory import create_space
from ..space import Matrix, SearchSpace
from .bench import covering_rows
from .cut import Chunk, cut, plain_input
from .guide import write_guide
from .manifest import FILE, Manifest, NetworkTiming
from .onnx_graph import to_onnx
from .plan import BlockPlan, cut_row, plan_blocks
from .table import pixels_of
from .tools.base import Timing

__all__ = ["NETWORKS", "pack"]

NETWORKS = 16
#: Fewer cannot tell an overhead from a scale.
_LEAST_NETWORKS = 3
_POOL = 256
_CALL = "call"

Progress = Callable[[str, int, int], None]


def pack(
    space: SearchSpace,
    folder: Path,
    *,
    resolutions: Sequence[int] = (),
    networks: int = NETWORKS,
    seed: int = 0,
    batch: int = 1,
    progress: Progress | None = None,
) -> Manifest:
    """Export every block of a space, and what is needed to time them elsewhere.

    Writes ``manifest.json``, ``blocks/*.onnx``, ``networks/*.onnx``, ``README.txt``, a script for
    each tool and ``times.csv`` to be filled in by hand.

    Args:
        space: the networks.
        folder: is made; must not hold a pack.
        resolutions: to time at; default the space's own. Latencies between two of them are
            interpolated.
        networks: whole networks at each resolution, from small to large, at least 3.
        seed: of the networks.
        batch: images in a call.
        progress: told what is done, how much of it, of how much.

    Raises:
        InvalidInputError: if the space cannot be cut or exported, a number is out of range, or
            the folder holds a pack.
    """
    if networks < _LEAST_NETWORKS or batch < 1:
        raise InvalidInputError(
            f"{networks} networks, batch {batch}; need at least {_LEAST_NETWORKS} and 1"
        )
    if (folder / FILE).exists():
        raise InvalidInputError(f"{folder} holds a pack; choose another folder")
    say = progress or (lambda *_: None)
    spaces = [
        space if side == space.resolution else create_space(**(space.spec() | {"resolution": side}))
        for side in dict.fromkeys(resolutions or (space.resolution,))
    ]
    try:
        for name in ("blocks", "networks", "results"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        return _write(spaces, folder, networks, seed, batch, say)
    except OSError as error:
        raise InvalidInputError(
            f"cannot write the pack to {folder}: {error.strerror or error}"
        ) from error


def _write(
    spaces: Sequence[SearchSpace], folder: Path, networks: int, seed: int, batch: int, say: Progress
) -> Manifest:
    plans: dict[int, BlockPlan] = {}
    for i, space in enumerate(spaces):
        say(f"cutting {space.name} at {space.resolution}", i, len(spaces))
        plans[space.resolution] = plan_blocks(space)
    shapes: dict[str, tuple[int, ...]] = {}
    for space in spaces:
        shapes |= _shapes(space, plans[space.resolution], batch)
    exporter = _Exporter(folder, shapes)
    exporter.call(batch)
    for space in spaces:
        exporter.blocks(space, plans[space.resolution], seed, say)
    chosen: list[NetworkTiming] = []
    for space in spaces:
        rows = _from_small_to_large(space, networks, seed)
        for k, arch in enumerate(space.decode(rows)):
            say(f"exporting networks at {space.resolution}", k, len(rows))
            name = f"n{k:02d}-{space.resolution}x{space.resolution}"
            image = (batch, *space.input_shape())
            model = to_onnx(space.build(arch, seed=0), plain_input(batch, space.input_shape()))
            exporter.save(Timing(name, f"networks/{name}.onnx", image), model)
            chosen.append(NetworkTiming(name, arch.text, arch.choices, space.resolution))
    manifest = Manifest(
        space=spaces[0].spec(),
        batch=batch,
        versions=_versions(),
        timings=tuple(exporter.timings),
        call=_CALL,
        blocks=exporter.names,
        networks=tuple(chosen),
        plans=plans,
    )
    write_guide(manifest, folder)
    manifest.write(folder)  # last: a folder without it is no pack
    return manifest


class _Exporter:
    """Writes files, and keeps what is to be timed."""

    def __init__(self, folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
        self.folder = folder
        self.shapes = shapes
        self.timings: list[Timing] = []
        self.names: dict[str, str | None] = {}
        self._saved: set[str] = set()
        self._count = 0

    def save(self, timing: Timing, model: Any) -> None:
        if timing.file not in self._saved:
            (self.folder / timing.file).write_bytes(model.SerializeToString())
            self._saved.add(timing.file)
        self.timings.append(timing)

    def call(self, batch: int) -> None:
        shape = (batch, 8, 1, 1)
        model = to_onnx(nn.ReLU(), torch.zeros(shape))
        self.save(Timing(_CALL, "blocks/call.onnx", shape), model)

    def blocks(self, space: SearchSpace, plan: BlockPlan, seed: int, say: Progress) -> None:
        """Export the structures of a plan that are not yet."""
        numbers = {block.key: i for i, block in enumerate(plan.blocks)}
        todo = {key for key in numbers if key not in self.names}
        needed = [numbers[key] for key in todo]
        image = space.input_shape()
        if not needed:
            return
        count = len(todo)
        for arch in space.decode(covering_rows(space, plan, needed, least=0, seed=seed)):
            network = space.build(arch, seed=0).eval()
            for chunk in cut(network, image, plan.finer):
                if chunk.key in todo:
                    say(f"exporting blocks at {space.resolution}", count - len(todo), count)
                    todo -= self._structure(chunk)

    def _structure(self, chunk: Chunk) -> set[str]:
        """Export a block for every shape it is needed at; the keys of those."""
        alone = _alone(chunk)
        pixels, layers = pixels_of(chunk.key)
        same = [key for key in self.shapes if pixels_of(key)[1] == layers]
        shapes = [self.shapes[key] for key in same]
        is_map = pixels is not None
        if _does_nothing(alone, self.shapes[chunk.key]):
            self.names |= dict.fromkeys(same)
            return set(same)
        # ONNX Runtime's tool fixes one open side by name, so those of squares share one.
        square = is_map and all(shape[2] == shape[3] for shape in shapes)
        model = to_onnx(
            alone,
            torch.zeros(self.shapes[chunk.key]),
            free=is_map,
            sides=("side", "side") if square else ("height", "width"),
        )
        stem = f"b{self._count:03d}"
        self._count += 1
        free = is_map and all(_computes(model, alone, shape) for shape in shapes)
        for key, shape in zip(same, shapes, strict=True):
            name = f"{stem}-{shape[2]}x{shape[3]}" if is_map else stem
            if free or not is_map:
                self.save(Timing(name, f"blocks/{stem}.onnx", shape, free), model)
            else:
                fixed = to_onnx(alone, torch.zeros(shape))
                self.save(Timing(name, f"blocks/{name}.onnx", shape), fixed)
            self.names[key] = name
        return set(same)


class _Alone(nn.Module):
    """A block with its numbers filled in, so that it takes one tensor, and its map averaged.

    Bringing a whole map out would cost more than many a block: a runtime that keeps maps in a
    layout of its own must turn it back, or takes a slower kernel (OpenVINO took 18 times as long
    over a stem), which it need not inside a network.
    """

    def __init__(self, chunk: Chunk, position: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(chunk.modules)
        self.before = chunk.args[:position]
        self.after = chunk.args[position + 1 :]

    def forward(self, x: Tensor) -> Any:
        y = self.compute(x)
        return y.mean(dim=(2, 3)) if isinstance(y, Tensor) and y.dim() == 4 else y

    def compute(self, x: Tensor) -> Any:
        """What the block alone gives."""
        first, *rest = self.parts
        y = first(*self.before, x, *self.after)
        for part in rest:
            y = part(y)
        return y


def _alone(chunk: Chunk) -> _Alone:
    positions = [i for i, arg in enumerate(chunk.args) if isinstance(arg, Tensor)]
    if len(positions) != 1:
        raise InvalidInputError(
            f"block {chunk.path!r} takes {len(positions)} tensors; a block that is timed alone"
            " takes one: build the table on the device, or fit one on whole networks (scholarch"
            " latency build or fit)"
        )
    return _Alone(chunk, positions[0]).eval()


def _does_nothing(block: _Alone, shape: tuple[int, ...]) -> bool:
    """Whether it hands on what it is given."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    given = x.clone()
    with torch.inference_mode():
        y = block.compute(x)
    return isinstance(y, Tensor) and y.data_ptr() == x.data_ptr() and torch.equal(y, given)


def _computes(model: Any, block: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a file, traced at one shape, computes the block's output at another as well."""
    try:
        import onnxruntime
    except ImportError:
        return True
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        computed = block(images)
    if not isinstance(computed, Tensor):
        return False
    expected = computed.numpy()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    failures = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        (found,) = session.run(None, {"x": images.numpy()})
    except (failures.Fail, failures.InvalidArgument, failures.RuntimeException):
        return False
    if found.shape != expected.shape:
        return False
    scale = float(np.abs(expected).max()) + 1e-6
    return bool(np.abs(found - expected).max() <= 1e-3 * scale)


def _shapes(space: SearchSpace, plan: BlockPlan, batch: int) -> dict[str, tuple[int, ...]]:
    """Shape of each block's tensor, batch first, from shapes alone."""
    found: dict[str, tuple[int, ...]] = {}
    for row in covering_rows(space, plan, range(len(plan.blocks)), least=0):
        for chunk in cut_row(space, row, plan.finer):
            tensors = [arg for arg in chunk.args if isinstance(arg, Tensor)]
            if tensors:
                found[chunk.key] = (batch, *tensors[0].shape[1:])
    return found


def _from_small_to_large(space: SearchSpace, count: int, seed: int) -> Matrix:
    """Different networks, evenly spaced by MACs in a random sample, ``[n, genes]``."""
    ends = np.array([[0] * len(space.genes), [len(gene.values) - 1 for gene in space.genes]])
    pool = np.concatenate([space.sample_matrix(_POOL, seed), ends]).astype(np.int64)
    pool = pool[space.valid(pool)]
    keys = space.keys(pool)
    pool = pool[[keys.index(key) for key in dict.fromkeys(keys)]]
    pool = pool[np.argsort(space.cost(pool)["macs"], kind="stable")]
    at = np.linspace(0, len(pool) - 1, min(count, len(pool))).round().astype(np.int64)
    return pool[at]


def _versions() -> dict[str, str]:
    import onnx

    return {"torch": torch.__version__, "onnx": onnx.__version__}
