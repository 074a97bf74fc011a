"""The sentence encoder all-MiniLM-L6-v2, from its weights, with torch's own transformer layers.

N. Reimers and I. Gurevych, "Sentence-BERT", EMNLP 2019: the mean of the last layer's tokens, normalized.
"""

import json
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from lookalike.training.progress import progress_bar

__all__ = ["embed_texts"]

BATCH = 64
MOST_TOKENS = 128


def embed_texts(texts: list[str], model: Path) -> NDArray[np.float32]:
    """n texts -> (n, 384) float32 of unit length."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    weights = safetensors.torch.load_file(model / "model.safetensors")
    weights = {name.removeprefix("bert."): tensor.float() for name, tensor in weights.items()}
    layers = [_layer(weights, f"encoder.layer.{number}.", config) for number in range(config["num_hidden_layers"])]
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(MOST_TOKENS)
    tokenizer.enable_padding()
    vectors = []
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))  # little padding in each batch
    with torch.inference_mode(), progress_bar("embedding", len(texts), "texts") as advance:
        for start in range(0, len(order), BATCH):
            batch = tokenizer.encode_batch([texts[number] for number in order[start : start + BATCH]])
            tokens = torch.tensor([each.ids for each in batch])
            present = torch.tensor([each.attention_mask for each in batch])
            hidden = _embedded(tokens, weights, config)
            for layer in layers:
                hidden = layer(hidden, src_key_padding_mask=present == 0)  # (batch, tokens, 384)
            share = present[:, :, None].float()
            pooled = (hidden * share).sum(1) / share.sum(1)  # (batch, 384)
            vectors.append(nn.functional.normalize(pooled).numpy())
            advance(len(batch))
    result = np.empty((len(texts), config["hidden_size"]), np.float32)
    result[order] = np.concatenate(vectors)
    return result


def _embedded(tokens: Tensor, weights: dict[str, Tensor], config: dict[str, float]) -> Tensor:
    """(batch, tokens) ids -> (batch, tokens, 384): the sum of the word, position and segment embeddings, normalized."""
    summed = (
        weights["embeddings.word_embeddings.weight"][tokens]
        + weights["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    scale, shift = (weights[f"embeddings.LayerNorm.{name}"] for name in ("weight", "bias"))
    return nn.functional.layer_norm(summed, scale.shape, scale, shift, config["layer_norm_eps"])


def _layer(weights: dict[str, Tensor], prefix: str, config: dict[str, int]) -> nn.TransformerEncoderLayer:
    layer = nn.TransformerEncoderLayer(
        config["hidden_size"],
        config["num_attention_heads"],
        config["intermediate_size"],
        activation="gelu",
        layer_norm_eps=config["layer_norm_eps"],
        batch_first=True,
    )
    ours = {
        "self_attn.out_proj": "attention.output.dense",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm1": "attention.output.LayerNorm",
        "norm2": "output.LayerNorm",
    }
    state = {
        f"{name}.{kind}": weights[f"{prefix}{theirs}.{kind}"]
        for name, theirs in ours.items()
        for kind in ("weight", "bias")
    }
    for kind in ("weight", "bias"):
        parts = [weights[f"{prefix}attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
        state[f"self_attn.in_proj_{kind}"] = torch.cat(parts)
    layer.load_state_dict(state)
    return layer.eval()
