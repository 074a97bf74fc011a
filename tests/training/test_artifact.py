import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from tests.training.helpers import blobs
from training.artifact import FORMAT, Encoder, load_encoder, resolve_device, write_encoder
from training.errors import ArtifactError, ConfigError
from training.model import ACTIVATIONS
from training.preprocess import Preprocessor
from training.sealed import seal

HEADER = {"input_shape": [2], "latent_dim": 1}


def dense(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight))
    layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return layer


def by_hand(folder: Path, *more: nn.Module) -> Encoder:
    """rows -> (rows - 1) * 2 -> difference + 0.5 -> once and twice that -> back to the raw unit."""
    folder.mkdir()
    encoder = nn.Sequential(dense([[1, -1]], [0.5]), *more)
    decoder = nn.Sequential(dense([[1], [2]], [0, 0]))
    bounds = {"low": torch.zeros(2), "high": torch.ones(2)}
    preprocess = Preprocessor("standard", torch.ones(2), torch.full((2,), 2.0), **bounds)
    write_encoder(folder, encoder, decoder, preprocess=preprocess, header=HEADER)
    return load_encoder(folder)


def rewritten(
    folder: Path, tensors: Callable[[dict[str, Tensor]], Any] = bool, header: Callable[[dict[str, Any]], Any] = bool
) -> None:
    """Change weights or manifest in place, and seal again so that every digest fits."""
    weights = safetensors.torch.load_file(folder / "weights.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    tensors(weights)
    header(manifest)
    for name in ("manifest.json", "manifest.sha256"):
        (folder / name).unlink()
    safetensors.torch.save_file(weights, folder / "weights.safetensors")
    seal(folder, FORMAT, {key: value for key, value in manifest.items() if key not in {"format", "files"}})


def test_encoding_and_reconstruction_as_worked_out_by_hand(tmp_path: Path) -> None:
    # (2, 3) is scaled to (2, 4); 2 - 4 + 0.5 = -1.5; back (-1.5, -3) / 2 + 1.
    encoder = by_hand(tmp_path / "e")
    rows = np.array([[2, 3], [1, 1]], np.float32)
    assert encoder.encode(rows).tolist() == [[-1.5], [0.5]]
    assert encoder.reconstruct(rows).tolist() == [[0.25, -0.5], [1.25, 1.5]]
    assert (encoder.input_shape, encoder.width, encoder.latent_dim) == ((2,), 2, 1)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_comes_back(tmp_path: Path, name: str) -> None:
    encoder = by_hand(tmp_path / "e", ACTIVATIONS[name]())
    expected = ACTIVATIONS[name]()(torch.tensor([[-1.5], [0.5]]))
    np.testing.assert_array_equal(encoder.encode(np.array([[2, 3], [1, 1]], np.float32)), expected)


def test_rows_beyond_a_block_are_encoded_like_the_first(encoder: Encoder) -> None:
    rows = blobs(20_000)
    both = np.concatenate([encoder.encode(rows[:7_000]), encoder.encode(rows[7_000:])])
    np.testing.assert_allclose(encoder.encode(rows), both, atol=1e-5)


def test_an_artifact_is_weights_and_manifest_and_no_code(encoder_folder: Path) -> None:
    assert sorted(p.name for p in encoder_folder.iterdir()) == [
        "manifest.json",
        "manifest.sha256",
        "weights.safetensors",
    ]


def test_loading_twice_gives_the_same_encoder_and_its_digest_stands_for_all_of_it(encoder_folder: Path) -> None:
    one, two = load_encoder(encoder_folder), load_encoder(encoder_folder)
    assert one.digest == two.digest
    np.testing.assert_array_equal(one.encode(blobs()), two.encode(blobs()))
    rewritten(encoder_folder, tensors=lambda weights: weights["encoder.0.bias"].add_(1e-6))
    assert load_encoder(encoder_folder).digest != one.digest


def test_a_loaded_encoder_learns_nothing_more(encoder: Encoder) -> None:
    assert not any(weight.requires_grad for half in (encoder.encoder, encoder.decoder) for weight in half.parameters())
    assert not encoder.encoder.training


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["encoder.0.weight", "decoder.0.bias", "preprocess.factor"])
def test_weights_that_are_no_numbers_are_refused(encoder_folder: Path, name: str, value: float) -> None:
    rewritten(encoder_folder, tensors=lambda weights: weights[name].flatten()[0].fill_(value))
    with pytest.raises(ArtifactError, match=rf"{name}: expected finite numbers"):
        load_encoder(encoder_folder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("encoder.0.weight", lambda tensor: tensor[:, :-1]),
        ("encoder.0.weight", lambda tensor: tensor.T),
        ("encoder.0.bias", lambda tensor: tensor.half()),
        ("decoder.0.bias", lambda tensor: tensor[None]),
        ("preprocess.offset", lambda tensor: tensor[:1]),
        ("preprocess.low", lambda tensor: tensor.double()),
    ],
)
def test_a_tensor_of_another_shape_or_type_is_refused(
    encoder_folder: Path, name: str, change: Callable[[Tensor], Tensor]
) -> None:
    rewritten(encoder_folder, tensors=lambda weights: weights.update({name: change(weights[name]).contiguous()}))
    with pytest.raises(ArtifactError, match=rf"{name}: expected float32"):
        load_encoder(encoder_folder)


@pytest.mark.parametrize("name", ["encoder.0.weight", "decoder.0.bias", "preprocess.high"])
def test_a_missing_tensor_is_refused(encoder_folder: Path, name: str) -> None:
    rewritten(encoder_folder, tensors=lambda weights: weights.pop(name))
    with pytest.raises(ArtifactError, match=rf"{name}: expected .*, found none"):
        load_encoder(encoder_folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.update(input_shape=[7]),
        lambda header: header.update(input_shape="six"),
        lambda header: header.update(latent_dim=4),
        lambda header: header.pop("latent_dim"),
        lambda header: header.pop("scale"),
        lambda header: header["encoder"][0].update(outs=9),
        lambda header: header["encoder"][-2].update(ins=9),
        lambda header: header["decoder"][0].update(ins=2),
        lambda header: header["encoder"].pop(0),
        lambda header: header["encoder"][1].update(kind="conv"),
        lambda header: header["encoder"][1].pop("kind"),
        lambda header: header.update(decoder=None),
        lambda header: header.update(decoder=[]),
        lambda header: header["encoder"].append(copy.deepcopy(header["encoder"][0])),
    ],
)
def test_a_manifest_that_describes_other_weights_is_refused(
    encoder_folder: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    rewritten(encoder_folder, header=change)
    with pytest.raises(ArtifactError):
        load_encoder(encoder_folder)


def test_layers_that_do_not_follow_on_each_other_are_refused_though_each_fits_its_weights(encoder_folder: Path) -> None:
    def widen(weights: dict[str, Tensor]) -> None:
        weights["decoder.0.weight"] = torch.zeros(len(weights["decoder.0.weight"]), 7)

    rewritten(encoder_folder, tensors=widen, header=lambda header: header["decoder"][0].update(ins=7))
    with pytest.raises(ArtifactError, match="decoder layer 0 takes 7 columns of 3"):
        load_encoder(encoder_folder)


def test_weights_of_another_format_are_refused_though_their_digest_fits(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"\x80\x04K\x01.")  # a pickle
    seal(tmp_path, FORMAT, HEADER)
    with pytest.raises(ArtifactError, match="expected a safetensors file"):
        load_encoder(tmp_path)


def test_an_artifact_without_weights_is_refused(tmp_path: Path) -> None:
    seal(tmp_path, FORMAT, HEADER)
    with pytest.raises(ArtifactError, match=r"weights\.safetensors"):
        load_encoder(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none_and_auto_takes_the_cpu() -> None:
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="expected a CUDA device, found none"):
        resolve_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_an_encoder_answers_on_cuda_as_on_the_cpu(encoder_folder: Path) -> None:
    on_cuda = load_encoder(encoder_folder, "auto")
    assert on_cuda.device.type == "cuda"
    np.testing.assert_allclose(on_cuda.encode(blobs()), load_encoder(encoder_folder).encode(blobs()), atol=1e-3)
