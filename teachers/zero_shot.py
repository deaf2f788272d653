"""A two-tower teacher as a classifier: classes are what its text tower makes of their names.

Radford et al., ICML 2021, §3.1: a class is the sentence "a photo of a {name}", an image's logits
are its cosines with the classes' embeddings, times e to the learnt power. On a labelled data set it
is then a teacher like any other. Without names it embeds; pairs of images and captions are not
read: on a batch the texts of ``tinyclip`` are those of its labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import parse_qsl

from torch import nn

from ..searchspace.errors import InvalidInputError
from ..searchspace.transformers.encoder import Encoder
from .clip import Clip
from .clip_text import TextSide

__all__ = [
    "PROMPT",
    "ClassNames",
    "ImageTower",
    "Named",
    "Wording",
    "classifier_of",
    "names_of",
    "split_wording",
]

PROMPT = "a photo of a {}"

#: What may stand behind a teacher's question mark.
_OPTIONS = ("classes", "prompt", "tokenizer")


@runtime_checkable
class Named(Protocol):
    """What is asked of a data set; ``scholarch.DataSet`` is one.

    Attributes:
        name: for messages.
        class_names: in label order, where known.
        modality: of the inputs; those of others than images are refused elsewhere.
        train: its part with the labels, ``[N]`` of classes.
    """

    @property
    def name(self) -> str: ...
    @property
    def class_names(self) -> tuple[str, ...] | None: ...
    @property
    def modality(self) -> str: ...
    @property
    def train(self) -> Any: ...


ClassNames = Sequence[str] | Named
"""Names in label order, or the data that have them."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How classes are put into words.

    Attributes:
        classes: their names, in label order; ``None``: those of the data.
        prompt: a sentence with ``{}`` in place of a name.
        tokenizer: file or folder in place of the teacher's own.

    Raises:
        InvalidInputError: if names are less than two, empty or twice the same, or the prompt has
            not one ``{}``.
    """

    classes: tuple[str, ...] | None = None
    prompt: str = PROMPT
    tokenizer: Path | None = None

    def __post_init__(self) -> None:
        if self.prompt.count("{}") != 1:
            raise InvalidInputError(
                f"prompt = {self.prompt!r}; need a sentence with one {{}}, e.g. {PROMPT!r}"
            )
        names = self.classes
        if names is None:
            return
        if len(names) < 2 or not all(isinstance(one, str) and one.strip() for one in names):
            raise InvalidInputError(
                f"classes = {', '.join(map(str, names)) or 'nothing'}; need the names of two or"
                " more, none empty"
            )
        if twice := next((one for one in names if names.count(one) > 1), None):
            raise InvalidInputError(
                f"classes have {twice!r} twice; need a name of its own for each, to tell them apart"
            )


class ImageTower(Encoder):
    """A two-tower network's encoder of images, which knows the other tower.

    Args:
        clip: both.

    Attributes:
        text: the other tower; none of its weights is one of this network's.
        wording: how classes will be put into words, once they are known.
    """

    def __init__(self, clip: Clip) -> None:
        made = clip.images
        super().__init__(made.stem, made.style, made.shape, num_classes=0, seed=None)
        self.text: TextSide = clip.text
        self.wording = Wording()
        self.load_state_dict(made.weights)
        self.eval()


def classifier_of(tower: ImageTower, names: Sequence[str], wording: Wording) -> Encoder:
    """The images' tower with a classifier of those classes, whose logits are s · cosines.

    Args:
        tower: left as it is.
        names: of the classes, in label order.
        wording: how they are put into words.

    Raises:
        InvalidInputError: if names are not as they should be, or the tokenizer is missing,
            damaged or another network's.
    """
    checked = Wording(tuple(names), wording.prompt, wording.tokenizer)
    sentences = [checked.prompt.replace("{}", name.replace("_", " ")) for name in names]
    texts = tower.text.embed(sentences, checked.tokenizer)
    found = Encoder(tower.spec, tower.style, tower.shape, num_classes=len(names), seed=None)
    # What is classified has the length √F, see `style.direction`.
    rows = texts * (tower.text.scale / math.sqrt(texts.shape[1]))
    head = {"head.weight": rows, "head.bias": rows.new_zeros(len(rows))}
    found.load_state_dict({**tower.state_dict(), **head})
    return found.eval().requires_grad_(False)


def names_of(what: str, module: nn.Module, classes: ClassNames | None) -> tuple[str, ...] | None:
    """Names of the classes that a teacher is to tell apart; ``None``: it is left as it is.

    Args:
        what: the teacher, for messages.
        module: its network; one that is no two-tower network's is left as it is.
        classes: names, or the data that have them.

    Raises:
        InvalidInputError: if the data's classes have no names.
    """
    if classes is None or not isinstance(module, ImageTower):
        return None
    if not isinstance(classes, Named):
        return tuple(classes)
    if classes.modality != "image":
        return None
    if classes.class_names is None and classes.train.labels.ndim == 1:
        raise InvalidInputError(
            f"data {classes.name!r} have no names of their classes, by which the two-tower teacher"
            f" {what!r} tells them apart; give some with it: TEACHER?classes=FILE, a name a line,"
            " or ?classes=cat,dog"
        )
    return classes.class_names


def split_wording(name: str) -> tuple[str, Wording | None]:
    """A teacher's name without what stands behind its question mark, and that.

    ``FOLDER?classes=cat,dog`` or ``?classes=FILE`` (a name a line), ``&prompt=a sketch of a {}``,
    ``&tokenizer=FILE``: so a run that knows its teacher by name has the same one again.

    Raises:
        InvalidInputError: if the names are not as they should be.
    """
    plain, mark, query = name.rpartition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    if not mark or not given or not given.keys() <= {*_OPTIONS}:
        return name, None
    classes = _names(given["classes"]) if "classes" in given else None
    tokenizer = Path(given["tokenizer"]).expanduser() if "tokenizer" in given else None
    return plain, Wording(classes, given.get("prompt", PROMPT), tokenizer)


def _names(text: str) -> tuple[str, ...]:
    if "," in text:
        return tuple(one.strip() for one in text.split(","))
    path = Path(text).expanduser()
    if not path.is_file():
        raise InvalidInputError(
            f"classes = {text!r}: no such file, and one name alone; need a file with a name a line,"
            " or names between commas"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"file of classes {text!r} cannot be read: {error}") from error
    return tuple(line.strip() for line in lines if line.strip())
