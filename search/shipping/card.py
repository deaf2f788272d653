"""A student's model card: what it is, what is known of it, and how each number was obtained."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .inputs import Sequences

if TYPE_CHECKING:
    from ..student import Student

__all__ = ["model_card"]

UNKNOWN = "unknown"

VECTORS = "agreement"

_COSTS = {
    "params": "trainable parameters",
    "macs": "multiply–accumulates of one {input} (what most papers print as FLOPs)",
    "flops": "2 × macs",
    "depth": "weighted layers on the longest path",
    "peak_memory": "bytes that one layer reads and writes at most, for one {input} in float32",
    "weight_memory": "bytes of all parameters in float32",
}

_PARTS = {
    "val": "validation {inputs}, on which choices were made",
    "test": "test {inputs}, on which nothing was chosen",
    "train": "training {inputs}",
}

#: One input and several, by modality.
_INPUTS = {"image": ("image", "images"), "text": ("text", "texts"), "sound": ("clip", "clips")}

#: Hugging Face's names of tasks, by modality; of vectors there is but one.
_TASKS = {
    "image": "image-classification",
    "text": "text-classification",
    "sound": "audio-classification",
}

#: Of :attr:`TrainedWeights.about`, what has a place of its own in the card.
_TOLD = ("by", "data", "input", "score", "teacher")


def model_card(student: Student, *, model_file: str | None) -> str:
    """``README.md`` of a student's folder, in Markdown behind Hugging Face's YAML header.

    Every number is the student's own; what it does not know is said to be unknown.

    Args:
        student: whose.
        model_file: why there is no ``model.py``; ``None``: there is one.
    """
    about: Mapping[str, Any] = student.trained.about if student.trained else {}
    name = f"{student.space.name} {student.arch.text}"
    parts = [
        _header(student, about, name),
        f"# {name}\n",
        _state(student),
        _network(student, about),
        _costs(student),
        _accuracy(student),
        _scores(student),
        _more(about),
        _loading(student, model_file),
        "## Licence\n\nNot chosen yet: whoever publishes these weights names the licence here and"
        " in the header. The data and the teacher may have terms of their own.",
        "Written by scholarch from what the student knows of itself.",
    ]
    return "\n".join(part.rstrip() + "\n" for part in parts if part)


def _header(student: Student, about: Mapping[str, Any], name: str) -> str:
    task = "feature-extraction" if student.gives_vectors else _TASKS[student.space.modality]
    lines = [
        "---",
        "library_name: pytorch",
        f"pipeline_tag: {task}",
        "tags:",
        "- neural-architecture-search",
        "- scholarch",
        f"- {student.space.name}",
    ]
    data = about.get("data")
    accuracy = student.trained.accuracy if student.trained else {}
    if data:
        # Quoted by JSON, which YAML reads.
        lines += ["datasets:", f"- {json.dumps(str(data))}"]
    if data and "test" in accuracy:
        lines += [
            "metrics:",
            f"- {_score(student)}",
            "model-index:",
            f"- name: {json.dumps(name)}",
            "  results:",
            "  - task:",
            f"      type: {task}",
            "    dataset:",
            f"      name: {json.dumps(str(data))}",
            f"      type: {json.dumps(str(data))}",
            "      split: test",
            "    metrics:",
            f"    - type: {_score(student)}",
            f"      value: {accuracy['test']:.6g}",
        ]
    return "\n".join([*lines, "# license: to be chosen by whoever publishes this", "---", ""])


def _state(student: Student) -> str:
    if student.trained is None:
        return (
            "**The weights are not trained**: they are random, of seed"
            f" {student.seed}. The architecture was chosen without training it; its accuracy is"
            " unknown."
        )
    return "The weights are trained; how and how well is said below."


def _score(student: Student) -> str:
    return VECTORS if student.gives_vectors else "accuracy"


def _input(student: Student, about: Mapping[str, Any]) -> str:
    """What the network takes."""
    image = student.image
    if isinstance(image, Sequences):
        return image.said
    channels, side, _ = image
    inputs = about.get("input") or {}
    mean, std = inputs.get("mean"), inputs.get("std")
    known = mean is not None and std is not None
    normalised = (
        f"normalised by mean {_values(mean)} and standard deviation {_values(std)} of images in"
        " [0, 1]"
        if known
        else f"normalised; by what is {UNKNOWN}"
    )
    return f"float32 `[B, {channels}, {side}, {side}]`, {normalised}"


def _network(student: Student, about: Mapping[str, Any]) -> str:
    given = f"`[B, {student.space.num_classes}]`"
    rows = [
        ("Architecture", f"`{student.arch.text}` of the space `{student.space.name}`"),
        ("Key", f"`{student.arch.key}`"),
        ("Input", _input(student, about)),
        ("Output", f"vectors {given}" if student.gives_vectors else f"logits {given}"),
        # Asked for and none: it was trained without.
        ("Teacher", _said(about.get("teacher", UNKNOWN) or "none")),
        ("Data", _said(about.get("data"))),
    ]
    return "## The network\n\n" + "\n".join(f"- {what}: {said}" for what, said in rows)


def _costs(student: Student) -> str:
    if not student.costs:
        return f"## Costs\n\nParameters, MACs and latency are {UNKNOWN}."
    one, _ = _INPUTS[student.space.modality]
    rows = ["| cost | value | what it is |", "|---|---:|---|"]
    for name, value in student.costs.items():
        what = _COSTS.get(name, "").format(input=one)
        if name.startswith("latency:"):
            what = f"milliseconds of one {one} on {name.partition(':')[2]}, by its latency table"
        rows.append(f"| {name} | {_number(value)} | {what} |")
    size = student.space.input_text()
    told = f"## Costs\n\nOf one {one} of {size}, counted from the architecture.\n\n"
    last = "" if any(n.startswith("latency:") for n in student.costs) else "\n\nLatency: unknown."
    return told + "\n".join(rows) + last


def _accuracy(student: Student) -> str:
    if student.trained is None:
        return "## Accuracy\n\nUnknown: the weights are not trained."
    by = student.trained.about.get("by", UNKNOWN)
    how = f"How the weights were obtained: {by}."
    if not student.trained.accuracy:
        return f"## Accuracy\n\nUnknown: it was not measured. {how}"
    data = student.trained.about.get("data") or "data that are unknown"
    score, vectors = _score(student), student.gives_vectors
    _, several = _INPUTS[student.space.modality]
    rows = [f"| part | {score} | measured on |", "|---|---:|---|"]
    for part, value in student.trained.accuracy.items():
        on = f"{_PARTS.get(part, part).format(inputs=several)}, of {data}"
        rows.append(f"| {part} | {f'{value:.4f}' if vectors else f'{value:.2%}'} | {on} |")
    if vectors:
        how = (
            "Agreement is the correlation of the cosine similarities of all pairs of its vectors"
            f" with those of the teacher's. {how}"
        )
    return f"## {score.capitalize()}\n\n" + "\n".join(rows) + f"\n\n{how}"


def _scores(student: Student) -> str:
    if math.isnan(student.score) and not student.scores:
        return ""
    lines = ["## Scores of the search", "", "Higher is better; no score is an accuracy."]
    if not math.isnan(student.score):
        if student.trained and student.score == student.trained.accuracy.get("val"):
            lines[-1] = (
                f"Higher is better; what the search maximised is the validation {_score(student)}."
            )
        lines += ["", f"- maximised: {student.score:.6g}"]
    lines += [
        f"- {name}: {'failed' if math.isnan(value) else f'{value:.6g}'}"
        for name, value in student.scores.items()
    ]
    return "\n".join(lines)


def _more(about: Mapping[str, Any]) -> str:
    rest = _public({name: value for name, value in about.items() if name not in _TOLD})
    if not rest:
        return ""
    return (
        "## What else is known of the weights\n\n```json\n"
        + json.dumps(rest, indent=2, ensure_ascii=False, default=str)
        + "\n```"
    )


def _public(value: Any) -> Any:
    """Without paths, which are of one machine."""
    if isinstance(value, Mapping):
        return {name: _public(one) for name, one in value.items() if name != "path"}
    return value


def _loading(student: Student, model_file: str | None) -> str:
    image = student.image
    what = "vectors" if student.gives_vectors else "probabilities"
    if isinstance(image, Sequences):
        call, takes = f"{what} = predict(network, {image.name})  # {image.said}", image.name
    else:
        channels, side, _ = image
        call = (
            f"{what} = predict(network, images)  # float [B, {channels}, {side}, {side}] in [0, 1]"
        )
        takes = "normalised images"
    lines = ["## How to load it", ""]
    if model_file is None:
        lines += [
            "With torch alone, in this folder:",
            "",
            "```python",
            "from model import load, predict",
            "",
            "network = load()",
            call,
            "```",
            "",
            "With scholarch, from anywhere:",
        ]
    else:
        lines += [f"There is no `model.py`: {model_file}.", "", "With scholarch:"]
    return "\n".join(
        [
            *lines,
            "",
            "```python",
            "import scholarch",
            "",
            f'network = scholarch.Student.from_pretrained("this/folder")  # takes {takes}',
            "```",
        ]
    )


def _said(value: Any) -> str:
    if value is None or value == {}:
        return UNKNOWN
    return value if isinstance(value, str) else f"`{json.dumps(value, default=str)}`"


def _values(values: Any) -> str:
    return "(" + ", ".join(f"{value:.4f}" for value in values) + ")"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"
