"""An encoder as a network of its home library: timm, or Hugging Face's transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from ..searchspace.errors import InvalidInputError
from ..searchspace.files import make_folder, write_atomic
from ..searchspace.transformers.encoder import Encoder
from ..searchspace.transformers.patch_stem import PatchStemSpec
from ..searchspace.transformers.text_stem import TextStemSpec
from ..searchspace.transformers.wave_stem import WaveStemSpec
from .to_timm import ARCHITECTURE, is_uniform, timm_arguments, to_timm
from .to_transformers import to_bert, to_hubert

__all__ = ["save_library", "to_library"]


def to_library(encoder: Encoder) -> tuple[nn.Module | None, str]:
    """A network of the home library with the same weights and forward.

    Images: a timm ``VisionTransformer``, classifier included. Text and sound: a
    ``transformers`` ``BertModel`` or ``HubertModel``, whose last hidden states are the
    encoder's tokens, where its layers are all equal and head_dim is width / heads; a HuBERT with
    a classifier is a ``HubertForSequenceClassification``.

    Args:
        encoder: left as it is; the network has a copy of its weights.

    Returns:
        The network in eval mode and what it is; or ``None`` and, in a line, why no library has
        it.

    Raises:
        InvalidInputError: if the library is not installed.
    """
    if isinstance(encoder.spec, PatchStemSpec):
        if encoder.style.embed:
            return None, "timm's ViT has no embedding in front of its classifier, as CLIP's has"
        if encoder.spec.norm:
            return None, "timm's ViT is written without a layer norm in front of its layers"
        return to_timm(encoder)
    if isinstance(encoder.spec, TextStemSpec):
        return to_bert(encoder)
    if isinstance(encoder.spec, WaveStemSpec):
        return to_hubert(encoder)
    return None, "Whisper's library takes spectrograms of 30 seconds, this encoder sound"


def save_library(encoder: Encoder, folder: Path) -> str:
    """Write ``config.json`` and ``model.safetensors`` as the home library reads them.

    ``transformers.AutoModel.from_pretrained(folder)`` and
    ``timm.create_model("local-dir:" + folder, pretrained=True)`` give the network of
    :func:`to_library`.

    Args:
        encoder: to be written.
        folder: made where it is not there.

    Returns:
        What was written.

    Raises:
        InvalidInputError: if the library has no such network, or no file of its can say it.
    """
    network, what = to_library(encoder)
    if network is None:
        raise InvalidInputError(f"this encoder has no form in its home library: {what}")
    if isinstance(encoder.spec, PatchStemSpec):
        config = _timm_config(encoder)
    else:
        settings: Any = network.config
        config = settings.to_dict() | {"architectures": [type(network).__name__]}
    make_folder(folder)
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_atomic(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))
    write_atomic(folder / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    if isinstance(encoder.spec, WaveStemSpec):
        extractor = {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "do_normalize": encoder.spec.normalise,
            "feature_size": 1,
            "sampling_rate": 16000,
        }
        write_atomic(folder / "preprocessor_config.json", json.dumps(extractor, indent=2) + "\n")
    return what


def _timm_config(encoder: Encoder) -> dict[str, Any]:
    if not is_uniform(encoder) or encoder.style.eps != 1e-6:
        why = "layers that differ" if not is_uniform(encoder) else "another epsilon than 1e-6"
        raise InvalidInputError(
            f"timm's config.json cannot say {why}; to_library gives the network itself"
        )
    arguments = timm_arguments(encoder)
    side, classes = arguments["img_size"], arguments.pop("num_classes")
    return {
        "architecture": ARCHITECTURE,
        "num_classes": classes,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [arguments["in_chans"], side, side],
            "num_classes": classes,
            "fixed_input_size": True,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
