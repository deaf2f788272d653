"""Published tables of layers: sums known from elsewhere, other spaces, units, damage."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scholarch.searchspace import create_space
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.latency.load import load_table
from scholarch.searchspace.latency.published import PublishedTable, is_published, read_published
from scholarch.searchspace.space import SearchSpace

ROWS = Path(__file__).parent / "note10_rows.json"

#: Kernel, expand ratio and depth everywhere → ms at width 1.2 and 224 pixels, as once-for-all's
#: own code adds them up.
GOLDEN = {(7, 6, 4): 92.4, (5, 4, 3): 37.8, (3, 3, 2): 17.8}


@pytest.fixture
def rows() -> Any:
    return json.loads(ROWS.read_text(encoding="utf-8"))


def mobilenet(**options: Any) -> SearchSpace:
    options = {"width_mult": 1.2, "resolution": 224, "num_classes": 1000} | options
    return create_space("mobilenetv3", **options)


def uniform(space: SearchSpace, k: int, e: int, d: int) -> np.ndarray:
    text = json.dumps({"ks": [k] * 20, "e": [e] * 20, "d": [d] * 5})
    return space.encode([space.parse(text)])


def read(data: Any, space: SearchSpace) -> PublishedTable:
    return read_published(data, Path("phone.json"), space)


@pytest.mark.parametrize(("choice", "ms"), GOLDEN.items())
def test_the_sums_of_the_note10(choice: tuple[int, int, int], ms: float) -> None:
    space = mobilenet()
    table = load_table(ROWS, space)
    assert table.device == "note10_rows"
    assert table.rows is None
    assert table.latency(space, uniform(space, *choice)) == pytest.approx([ms], abs=0.05)


def test_the_whole_table(data_dir: Path) -> None:
    largest = []
    for side in range(160, 225, 4):
        space = mobilenet(resolution=side)
        table = load_table(data_dir / "ofa_note10_lut.json", space)
        largest.append(float(table.latency(space, uniform(space, 7, 6, 4))[0]))
        if side == 224:
            found = [float(table.latency(space, uniform(space, *c))[0]) for c in GOLDEN]
            assert found == pytest.approx(list(GOLDEN.values()), abs=0.05)
    # Larger images take longer, give or take what the phone did beside.
    assert largest[-1] > 1.7 * largest[0]
    assert min(np.diff(largest)) > -0.05 * largest[0]


def test_a_table_serves_every_resolution_it_has() -> None:
    small, large = mobilenet(resolution=160), mobilenet()
    table = load_table(ROWS, large)
    assert table.latency(small, uniform(small, 7, 6, 4)) < table.latency(
        large, uniform(large, 7, 6, 4)
    )


def test_a_row_alone_equals_a_row_among_many() -> None:
    space = mobilenet()
    table = load_table(ROWS, space)
    matrix = space.sample_matrix(20_000, 0)  # more than are summed at a time
    some = [0, 8191, 8192, 19_999]
    alone = [float(table.latency(space, matrix[i : i + 1])[0]) for i in some]
    assert table.latency(space, matrix)[some] == pytest.approx(alone, rel=1e-12)


def test_genes_of_absent_blocks_cost_nothing() -> None:
    space = mobilenet()
    table = load_table(ROWS, space)
    matrix = space.sample_matrix(500, 0)
    canonical = space.canonical(matrix)
    assert (matrix != canonical).any()
    assert np.array_equal(table.latency(space, matrix), table.latency(space, canonical))


def test_speed() -> None:
    space = mobilenet()
    table = load_table(ROWS, space)
    matrix = space.sample_matrix(200_000, 0)
    best = np.inf
    for _ in range(3):
        begin = time.process_time()
        table.latency(space, matrix)
        best = min(best, time.process_time() - begin)
    # Ten times below what it does on an idle machine, which a loop over rows would not reach.
    assert len(matrix) / best > 250_000


def test_compofa_is_made_of_the_same_layers(rows: Any) -> None:
    space = create_space("compofa", width_mult=1.2, resolution=224, num_classes=1000)
    full = mobilenet()
    row = np.array([[len(gene.values) - 1 for gene in space.genes]])
    arch = full.parse(space.decode(row)[0].text)
    table = read(rows, space)
    assert table.latency(space, row) == pytest.approx(table.latency(full, full.encode([arch])))


# ---------------------------------------------------------------------- ProxylessNAS


def proxyless_table() -> dict[str, dict[str, float]]:
    """Every layer at 224 pixels, in the original's words: the expand ratio, no gate."""
    table: dict[str, dict[str, float]] = {}

    def add(key: str) -> None:
        table[key] = {"count": 100, "mean": 1.0 + len(table) / 100, "std": 0.1}

    add("Conv-input:224x224x3-output:112x112x32")
    add("expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0")
    width, side = 16, 112
    for out, stride in ((24, 2), (40, 2), (80, 2), (96, 1), (192, 2), (320, 1)):
        for k, e in product((3, 5, 7), (3, 4, 6)):
            to = side // stride
            add(
                f"expanded_conv-input:{side}x{side}x{width}-output:{to}x{to}x{out}"
                f"-expand:{e}-kernel:{k}-stride:{stride}-idskip:0"
            )
            if out != 320:
                add(
                    f"expanded_conv-input:{to}x{to}x{out}-output:{to}x{to}x{out}"
                    f"-expand:{e}-kernel:{k}-stride:1-idskip:1"
                )
        width, side = out, side // stride
    add("Conv_1-input:7x7x320-output:7x7x1280")
    add("Logits-input:7x7x1280-output:1000")
    return table


def test_proxylessnas_from_yaml(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    table = proxyless_table()
    file = tmp_path / "mobile_trim.yaml"
    file.write_text(
        "".join(
            f"{key}:\n  count: {v['count']}\n  mean: {v['mean']}\n  std: {v['std']}\n"
            for key, v in table.items()
        ),
        encoding="utf-8",
    )
    space = create_space("proxylessnas", resolution=224, num_classes=1000)
    loaded = load_table(file, space)
    assert loaded.device == "mobile_trim"
    smallest = np.zeros((1, len(space.genes)), dtype=np.int64)  # two blocks a stage, k3 e3
    keys = [key for key in table if "expand:" not in key or "expand:1-" in key]
    keys += [key for key in table if "expand:3-kernel:3-" in key]
    assert len(keys) == 4 + 11
    expected = sum(table[key]["mean"] for key in keys)
    assert loaded.latency(space, smallest) == pytest.approx([expected])


def test_layers_of_mobilenetv3_are_not_those_of_proxylessnas() -> None:
    table = proxyless_table()
    with pytest.raises(InvalidInputError, match=r"lacks .* 'mobilenetv3' \(width_mult 1.0"):
        read(table, mobilenet(width_mult=1.0))


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width_mult": 1.0}, r"width_mult 1\.0.*-output:112x112x16'.*-output:112x112x24'"),
        ({"num_classes": 10}, r"lacks 1 of 96 layers.*1536-output:10'.*1536-output:1000'"),
        ({"resolution": 200}, r"lacks resolution 200; it has 160, 224"),
    ],
)
def test_a_space_of_other_layers_is_refused(rows: Any, options: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        read(rows, mobilenet(**options))
    assert "\n" not in str(caught.value)


def test_a_space_without_mobilenets_is_refused(rows: Any) -> None:
    with pytest.raises(InvalidInputError, match="'nasbench201' is none"):
        read(rows, create_space("nasbench201"))


def scaled(factor: float) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for line in data["table"]["224"].values():
            line[0] *= factor

    return change


def spoilt(value: Any) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        data["table"]["224"]["Conv-input:224x224x3-output:112x112x24"] = value

    return change


def without_a_layer(data: Any) -> None:
    del data["table"]["224"]["Conv_2-input:1x1x1152-output:1x1x1536"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (scaled(1e-3), r"gives 0\.0924 .*looks like seconds"),
        (scaled(1e3), r"gives 9\.24e\+04 .*looks like microseconds"),
        (lambda data: data.update(unit="us"), "is in 'us'; need unit 'ms'"),
        (lambda data: data.pop("unit"), "is in None; need unit 'ms'"),
        (lambda data: data.update(fields=["low", "std", "count"]), "need a mean"),
        (spoilt([float("nan"), 0.1, 5]), r"mean of layer 'Conv-input:224x224x3.*takes nan"),
        (spoilt([-1.0, 0.1, 5]), r"takes -1\.0"),
        (spoilt([1.0]), "takes None"),
        (spoilt({"std": 0.1}), "takes None"),
        (without_a_layer, "lacks 1 of 96 layers.*'Conv_2-input"),
    ],
)
def test_a_damaged_table_is_refused(rows: Any, change: Callable[[Any], None], said: str) -> None:
    change(rows)
    with pytest.raises(InvalidInputError, match=said):
        read(rows, mobilenet())


def test_a_layout_without_resolutions_needs_its_first_layer(rows: Any) -> None:
    layers = {key: {"mean": line[0]} for key, line in rows["table"]["224"].items()}
    assert read(layers, mobilenet()).layers.keys() == {224}
    del layers["Conv-input:224x224x3-output:112x112x24"]
    with pytest.raises(InvalidInputError, match="lacks its first layer"):
        read(layers, mobilenet())


def test_what_is_published(rows: Any) -> None:
    assert is_published(rows)
    assert is_published(rows["table"])
    assert is_published(rows["table"]["224"])
    assert not is_published({"table": {"224": {}}})
    assert not is_published({"Conv-input": 1.0})
    assert not is_published([1, 2])


def test_yaml_cut_short_and_yaml_without_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("Conv-input:224x224x3-output:112x112x24: {mean: 1.", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="is no YAML, or was cut short") as caught:
        load_table(file, mobilenet())
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(InvalidInputError, match="pip install pyyaml"):
        load_table(file, mobilenet())
