"""The accuracy of an exported student on a data set's test part, by onnxruntime alone.

Usage: python onnx_accuracy.py STUDENT.onnx DISTIL_FOLDER [DATA]

The file takes normalised images and gives logits. Beside its accuracy stand the numbers that
the distillation told in ``distil.json``: the student's by torch, its teacher's and, with
``--baseline``, that of the hand-made network of its size.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

import scholarch


def accuracy(file: str, data: str) -> float:
    """Share of the test images that the network in a file names rightly."""
    images = scholarch.load_data(data)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    mean, std = (np.array(values, dtype=np.float32) for values in (images.mean, images.std))
    inputs = (images.test.images.astype(np.float32) / 255 - mean) / std
    (logits,) = session.run(None, {taken.name: inputs.transpose(0, 3, 1, 2)})
    return float((logits.argmax(axis=1) == images.test.labels).mean())


if __name__ == "__main__":
    file, folder = sys.argv[1:3]
    told = json.loads(Path(folder, "distil.json").read_text())
    data = sys.argv[3] if len(sys.argv) > 3 else told["data"]["name"]
    rows = [("student, reloaded by onnxruntime", accuracy(file, data))]
    rows.append(("student, by torch", told["student"]["test"]))
    if told.get("baseline"):
        rows.append((f"hand-made {told['baseline']['arch']}", told["baseline"]["test"]))
    rows += [(f"teacher {name}", one["test"]) for name, one in told["measured"].items()]
    print(f"accuracy on the {told['parts']['test']:,} test images of {data}:")
    for name, share in rows:
        print(f"  {share:7.2%}  {name}")
