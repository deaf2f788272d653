"""``model.py``: torch alone loads it, and its network computes what the student does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from scholarch.catalog import CATALOGS
from scholarch.search.shipping.model_file import CONSTANTS, model_source
from scholarch.search.shipping.shaped_trace import UntraceableError, traced
from scholarch.search.student import Student
from scholarch.searchspace.factory import create_space
from scholarch.testing.light import SIDES, light_options

SIDE = 8
SPACES = [row["name"] for row in CATALOGS["spaces"]("*")]

Make = Callable[..., Student]
Draw = Callable[..., Tensor]

#: Loads every student of a folder without scholarch, and keeps what it computes.
_ALONE = """
import importlib.util, json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
state = torch.random.get_rng_state()
told = {}
for folder in sorted(Path(".").iterdir()):
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.load()
    given = torch.load(folder / "given.pt", weights_only=True)
    with torch.inference_mode():
        outputs = {name: network(images) for name, images in given.items()}
    outputs["predicted"] = module.predict(network, given["five"])
    torch.save(outputs, folder / "outputs.pt")
    told[folder.name] = {"keys": sorted(network.state_dict()), "training": network.training}
ours = [name for name in sys.modules if name.split(".")[0] in ("scholarch", "safetensors")]
drawn = not torch.equal(state, torch.random.get_rng_state())
print(json.dumps({"told": told, "ours": ours, "drawn": drawn}))
"""


def options_of(name: str) -> dict[str, Any]:
    space = create_space(name)
    side = SIDES[space.modality] * (2 if space.modality == "image" and space.resolution > 32 else 1)
    return light_options(name, num_classes=4, resolution=side)


@pytest.fixture(scope="module")
def alone(
    tmp_path_factory: pytest.TempPathFactory, make_student: Make, images_of: Draw, trained: Student
) -> tuple[Path, dict[str, Student], dict[str, Any]]:
    """Students of all spaces, loaded in another process by their ``model.py``."""
    torch.set_num_threads(1)
    top = tmp_path_factory.mktemp("students")
    students = {name: make_student(name, None, **options_of(name)) for name in SPACES}
    students["trained"] = trained
    for name, student in students.items():
        student.save_pretrained(top / name)
        assert (top / name / "model.py").is_file(), (top / name / "README.md").read_text()
        torch.save(
            {"one": images_of(student, 1), "five": images_of(student, 5)}, top / name / "given.pt"
        )
    found = subprocess.run(
        [sys.executable, "-I", "-c", _ALONE], cwd=top, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return top, students, json.loads(found.stdout)


def test_neither_scholarch_nor_safetensors_is_loaded_and_nothing_is_drawn(alone: Any) -> None:
    _, _, told = alone
    assert told["ours"] == []
    assert told["drawn"] is False


@pytest.mark.parametrize("name", [*SPACES, "trained"])
def test_outputs_are_the_students_bit_for_bit(alone: Any, name: str) -> None:
    top, students, told = alone
    network = students[name].module().eval()
    assert told["told"][name] == {"keys": sorted(network.state_dict()), "training": False}
    given = torch.load(top / name / "given.pt", weights_only=True)
    outputs = torch.load(top / name / "outputs.pt", weights_only=True)
    with torch.inference_mode():
        for size, images in given.items():
            assert torch.equal(outputs[size], network(images)), size
    assert not torch.equal(outputs["five"][0], outputs["five"][1])  # it does compute something


def test_predict_normalises_as_in_training_where_that_is_known(alone: Any) -> None:
    top, students, _ = alone
    for name, mean, std in (
        ("trained", (0.3, 0.4, 0.5), (0.3, 0.25, 0.2)),
        ("resnet-cifar", (0.0,) * 3, (1.0,) * 3),
    ):
        images = torch.load(top / name / "given.pt", weights_only=True)["five"]
        shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std))
        with torch.no_grad():
            logits = students[name].module().eval()((images - shift) / scale)
        found = torch.load(top / name / "outputs.pt", weights_only=True)["predicted"]
        torch.testing.assert_close(found, logits.softmax(1))


# ---------------------------------------------------------------------- networks of others


class Odd(nn.Module):
    """Whatever a plug-in space may have: own parameters, shared layers, keys of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 3, 1, 1))
        self.register_buffer("count", torch.ones((), dtype=torch.int64))
        self.ops = nn.ModuleDict({"3": nn.Conv2d(3, 3, (3, 1), padding=(1, 0)), "class": nn.ELU()})
        self.same = self.ops["3"]
        self.table = nn.Embedding(2, 3)
        self.nothing: nn.Module | None = None
        self.norm = nn.GroupNorm(3, 3, eps=1e-3)
        self.fc = nn.Linear(3, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.ops["class"](self.ops["3"](x * self.scale)) - self.same(x)
        x = functional.pad(self.norm(x), (1, 0), value=-float("inf"))
        b, c, *_ = x.shape
        first, second = self.table.weight
        rows = x.amax(dim=(-2, -1)).view(b, c) + first[None, :] / len(second)
        rows = torch.cat([rows, -rows], dim=0)[: len(x)]
        return self.fc(rows.clamp(-2.5, 2.5)) + self.count


def build(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module of seeded weights; no global generator is drawn from."""
    with torch.device("meta"):
        module = make()
    module.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 1.0, generator=generator)
    return module.eval()


def run(source: str, module: nn.Module, folder: Path) -> Any:
    (folder / "model.py").write_text(source)
    save_file(module.state_dict(), folder / "model.safetensors")
    space: dict[str, Any] = {"__file__": str(folder / "model.py"), "__name__": "model"}
    exec(compile(source, "model.py", "exec"), space)
    return space


def test_a_network_of_unusual_make(tmp_path: Path, make_student: Make, images_of: Draw) -> None:
    module = build(Odd)
    del module.same
    module.same = module.ops["3"]  # tied again: to_empty() copied nothing
    state = {k: v.clone() for k, v in module.state_dict().items()}
    source = model_source(module, (3, SIDE, SIDE), about='odd "\\ one', classes=4)
    keyed = type("Keyed", (), {"state_dict": lambda _: state})()
    found = run(source, keyed, tmp_path)["load"]()
    for count in (1, 4):
        images = images_of(make_student(), count)
        with torch.no_grad():
            assert torch.equal(found(images), module(images))
    assert found.same is found.ops._modules["3"]
    assert list(found.state_dict()) == list(state)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


class Counting(nn.Module):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.flatten(1) * self.calls


class Foreign(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x).real


class ByBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2 * len(x), -1)


class Hidden(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.ones(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) * self.table


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (Branching(), "control flow"),
        (Counting(), "computes something else"),
        (Foreign(), "fft"),
        (ByBatch(), "batch is part of a number"),
    ],
)
def test_what_cannot_be_written_is_told(
    module: nn.Module, match: str, tmp_path: Path, of_module: Callable[[nn.Module], Student]
) -> None:
    with pytest.raises(UntraceableError, match=match) as error:
        model_source(module, (3, SIDE, SIDE), about="x", classes=4)
    assert "\n" not in str(error.value)
    (tmp_path / "model.py").write_text("of another student")
    of_module(module).save_pretrained(tmp_path)
    assert not (tmp_path / "model.py").exists()
    assert f"There is no `model.py`: {error.value}" in (tmp_path / "README.md").read_text()


def test_what_the_state_dict_leaves_out_lies_beside(
    tmp_path: Path, of_module: Callable[[nn.Module], Student]
) -> None:
    of_module(Hidden()).save_pretrained(tmp_path)
    assert (tmp_path / "model.py").is_file()
    assert load_file(tmp_path / CONSTANTS)["table"].tolist() == [1.0]


def test_the_traced_network_is_left_as_it_was(make_student: Make) -> None:
    network = make_student().module().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    graph = traced(network, (3, SIDE, SIDE))
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert all(p.device.type == "cpu" for p in network.parameters())
    assert sum(node.op == "call_module" for node in graph.nodes) > 5
