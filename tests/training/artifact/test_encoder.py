import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lookalike.training.artifact.encoder import FORMAT, Encoder, load_encoder, resolve_device, write_encoder
from lookalike.training.artifact.export import fold
from lookalike.training.artifact.preprocess import Preprocessor, fit_preprocessor
from lookalike.training.config import ModelConfig
from lookalike.training.errors import ArtifactError, ConfigError
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.models.layers import ACTIVATIONS
from lookalike.training.sealed import seal
from lookalike.training.tables.columns import Column
from tests.factories import blobs

HEADER = {"input_shape": [2], "latent_dim": 1, "output": "values"}


def dense(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight))
    layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return layer


def by_hand(folder: Path, *more: nn.Module) -> Encoder:
    """rows -> (rows - 1) * 2 -> difference + 0.5 -> once and twice that -> back to the raw unit."""
    folder.mkdir()
    encoder = nn.Sequential(dense([[1, -1]], [0.5]), *more)
    decoder = nn.Sequential(dense([[1], [2]], [0, 0]))
    preprocess = Preprocessor("standard", torch.ones(2), torch.full((2,), 2.0), torch.zeros(2), torch.ones(2))
    write_encoder(folder, encoder, decoder, preprocess=preprocess, header=HEADER)
    return load_encoder(folder)


def rewritten(
    folder: Path, tensors: Callable[[dict[str, Tensor]], Any] = bool, header: Callable[[dict[str, Any]], Any] = bool
) -> None:
    """Change weights or manifest in place, and seal again so that every digest matches."""
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


def test_errors_as_worked_out_by_hand(tmp_path: Path) -> None:
    # (2, 3) is scaled to (2, 4) and decoded to (-1.5, -3): off by 3.5 and 7. (1, 1) is (0, 0), decoded to (0.5, 1).
    encoder = by_hand(tmp_path / "e")
    rows = np.array([[2, 3], [1, 1]], np.float32)
    latent, errors = encoder.encode_with_errors(rows)
    assert latent.tolist() == [[-1.5], [0.5]]
    assert errors.tolist() == pytest.approx([np.sqrt((3.5**2 + 7**2) / 2), np.sqrt((0.5**2 + 1) / 2)])
    assert errors.dtype == np.float32
    assert [part.shape for part in encoder.encode_with_errors(rows[:0])] == [(0, 1), (0,)]


@pytest.mark.parametrize("output", ["values", "logits"])
def test_errors_match_numpy(encoder: Encoder, encoder_folder: Path, output: str) -> None:
    rewritten(encoder_folder, header=lambda manifest: manifest.update(output=output))
    encoder, rows = load_encoder(encoder_folder), blobs(500)
    weights = safetensors.torch.load_file(encoder_folder / "weights.safetensors")
    parts = {name: weights[f"preprocess.{name}"].numpy().astype(np.float64) for name in ("offset", "factor")}
    differences = (encoder.reconstruct(rows) - rows) * parts["factor"]
    expected = np.sqrt(np.mean(np.square(differences), axis=1))
    latent, errors = encoder.encode_with_errors(rows)
    np.testing.assert_allclose(errors, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(latent, encoder.encode(rows), atol=1e-6)


def test_results_do_not_depend_on_the_number_of_rows(encoder: Encoder, pictures_folder: Path) -> None:
    for one, rows in ((encoder, blobs(70)), (load_encoder(pictures_folder), noise(70))):
        latent = np.concatenate([one.encode(row[None]) for row in rows])
        back = np.concatenate([one.decode(row[None]) for row in latent])
        errors = np.concatenate([one.encode_with_errors(row[None])[1] for row in rows])
        for count in range(1, 71):
            for first in {0, 70 - count}:
                part = slice(first, first + count)
                np.testing.assert_allclose(one.encode(rows[part]), latent[part], atol=1e-5)
                np.testing.assert_allclose(one.decode(latent[part]), back[part], atol=1e-5)
                encoded, off = one.encode_with_errors(rows[part])
                np.testing.assert_allclose(encoded, latent[part], atol=1e-5)
                np.testing.assert_allclose(off, errors[part], atol=1e-5)


def test_a_row_of_huge_values_counts_as_the_ends_of_the_known_range(
    tmp_path: Path,
) -> None:
    """The fitted range is 1 to 1.5; the known range adds ten times that width on either side: -4 to 6.5."""
    encoder = by_hand(tmp_path / "e")
    rows = np.resize(np.array([[2, 3]], np.float32), (20, 2))
    rows[7], ends = [3e38, -3e38], np.array([[6.5, -4]], np.float32)
    latent, errors = encoder.encode_with_errors(rows)
    np.testing.assert_allclose(latent[7:8], encoder.encode(ends), rtol=1e-6)
    np.testing.assert_allclose(errors[7:8], encoder.encode_with_errors(ends)[1], rtol=1e-6)
    np.testing.assert_allclose(np.delete(errors, 7), encoder.encode_with_errors(rows[:1])[1][0], rtol=1e-6)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_is_restored(tmp_path: Path, name: str) -> None:
    encoder = by_hand(tmp_path / "e", ACTIVATIONS[name]())
    expected = ACTIVATIONS[name]()(torch.tensor([[-1.5], [0.5]]))
    np.testing.assert_array_equal(encoder.encode(np.array([[2, 3], [1, 1]], np.float32)), expected)


def unscaled(width: int) -> Preprocessor:
    return Preprocessor("none", torch.zeros(width), torch.ones(width), torch.zeros(width), torch.ones(width))


@pytest.fixture
def pictures_folder(tmp_path: Path) -> Path:
    """An artifact of convolutions, for pictures of 16 x 16, to damage."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    torch.manual_seed(0)
    model = Autoencoder(
        (16, 16), 3, ModelConfig(kind="conv", channels=(64, 4), batch_norm=False, latent_norm=False, latent_noise=0.0)
    ).eval()
    header = {"input_shape": [16, 16], "latent_dim": 3, "output": "values"}
    write_encoder(folder, fold(model.encoder), fold(model.decoder), preprocess=unscaled(256), header=header)
    return folder


def noise(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(count, 256)).astype(np.float32)


def test_convolutions_as_worked_out_by_hand(tmp_path: Path) -> None:
    # Kernels of ones over 3 x 3 pixels of 1 cover four pixels at each corner: 16 in all. The decoder adds them at the
    # corners: the sides get two of them and the center four.
    config = ModelConfig(
        kind="conv", channels=(1,), activation="linear", batch_norm=False, latent_norm=False, latent_noise=0.0
    )
    model = Autoencoder((3, 3), 1, config)
    for name, weights in model.named_parameters():
        torch.nn.init.constant_(weights, float(name.endswith("weight")))
    header = {"input_shape": [3, 3], "latent_dim": 1, "output": "values"}
    write_encoder(tmp_path, model.encoder, model.decoder, preprocess=unscaled(9), header=header)
    encoder = load_encoder(tmp_path)
    assert encoder.encode(np.ones((2, 9), np.float32)).tolist() == [[16], [16]]
    assert encoder.reconstruct(np.ones((1, 9), np.float32)).tolist() == [[16, 32, 16, 32, 64, 32, 16, 32, 16]]


def test_rows_that_grow_between_layers_are_encoded_in_small_blocks(pictures_folder: Path) -> None:
    encoder = load_encoder(pictures_folder)
    assert encoder.widest == 8 * 8 * 64  # so 2,048 rows fill a block
    rows = noise(5_000)
    parts = np.concatenate([encoder.encode(rows[:1]), encoder.encode(rows[1:3_000]), encoder.encode(rows[3_000:])])
    np.testing.assert_allclose(encoder.encode(rows), parts, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("encoder.1.weight", lambda tensor: tensor[:, :, :, :2]),
        ("encoder.1.weight", lambda tensor: tensor[:5]),
        ("encoder.3.weight", lambda tensor: tensor.transpose(0, 1)),
        ("encoder.3.bias", lambda tensor: tensor.double()),
        ("decoder.5.weight", lambda tensor: tensor[..., None]),
        ("decoder.5.bias", lambda tensor: tensor[:0]),
    ],
)
def test_refuses_a_kernel_of_the_wrong_shape_or_type(
    pictures_folder: Path, name: str, change: Callable[[Tensor], Tensor]
) -> None:
    load_encoder(pictures_folder)
    rewritten(pictures_folder, tensors=lambda weights: weights.update({name: change(weights[name]).contiguous()}))
    with pytest.raises(ArtifactError, match=rf"{name}: expected float32"):
        load_encoder(pictures_folder)


HUGE = 1 << 62


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.update(input_shape=[256, 16]),
        lambda header: header.update(input_shape=[16, 17]),
        lambda header: header.update(input_shape=[-16, -16]),
        lambda header: header.update(input_shape=[16.0, 16]),
        lambda header: header.update(input_shape=[]),
        lambda header: header.update(input_shape=[HUGE, HUGE]),
        lambda header: header.update(latent_dim=HUGE),
        lambda header: header.update(latent_dim=3.0),
        lambda header: header["encoder"].pop(0),
        lambda header: header["encoder"][0].update(height=HUGE, width=HUGE),
        lambda header: header["encoder"][1].update(outs=HUGE),
        lambda header: header["encoder"].insert(1, {"kind": "conv", "ins": 1, "outs": 1}),
        lambda header: header["decoder"][2].update(height=HUGE),
        lambda header: header["decoder"][3].update(below=0),
        lambda header: header["decoder"][3].update(outs=HUGE),
        lambda header: header["decoder"].pop(),
    ],
)
def test_refuses_a_manifest_that_does_not_match_the_convolutions(
    pictures_folder: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    rewritten(pictures_folder, header=change)
    with pytest.raises(ArtifactError):
        load_encoder(pictures_folder)


def test_refuses_the_first_format_by_name(encoder_folder: Path) -> None:
    manifest = json.loads((encoder_folder / "manifest.json").read_text())
    for name in ("manifest.json", "manifest.sha256"):
        (encoder_folder / name).unlink()
    seal(encoder_folder, "lookalike-encoder/1", {k: v for k, v in manifest.items() if k not in {"format", "files"}})
    with pytest.raises(ArtifactError, match="expected the format lookalike-encoder/6, found lookalike-encoder/1"):
        load_encoder(encoder_folder)


def test_rows_beyond_a_block_are_encoded_like_the_first(encoder: Encoder) -> None:
    rows = blobs(20_000)
    both = np.concatenate([encoder.encode(rows[:7_000]), encoder.encode(rows[7_000:])])
    np.testing.assert_allclose(encoder.encode(rows), both, atol=1e-5)


def test_an_artifact_contains_weights_and_manifest_and_no_code(encoder_folder: Path) -> None:
    assert sorted(p.name for p in encoder_folder.iterdir()) == [
        "manifest.json",
        "manifest.sha256",
        "weights.safetensors",
    ]


def test_loading_twice_returns_the_same_encoder_and_the_digest_covers_all_of_it(encoder_folder: Path) -> None:
    one, two = load_encoder(encoder_folder), load_encoder(encoder_folder)
    assert one.digest == two.digest
    np.testing.assert_array_equal(one.encode(blobs()), two.encode(blobs()))
    rewritten(encoder_folder, tensors=lambda weights: weights["encoder.0.bias"].add_(1e-6))
    assert load_encoder(encoder_folder).digest != one.digest


def test_a_loaded_encoder_cannot_be_trained(encoder: Encoder) -> None:
    assert not any(weight.requires_grad for half in (encoder.encoder, encoder.decoder) for weight in half.parameters())
    assert not encoder.encoder.training


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["encoder.0.weight", "decoder.0.bias", "preprocess.factor"])
def test_refuses_weights_that_are_not_finite(encoder_folder: Path, name: str, value: float) -> None:
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
def test_refuses_a_tensor_of_the_wrong_shape_or_type(
    encoder_folder: Path, name: str, change: Callable[[Tensor], Tensor]
) -> None:
    rewritten(encoder_folder, tensors=lambda weights: weights.update({name: change(weights[name]).contiguous()}))
    with pytest.raises(ArtifactError, match=rf"{name}: expected float32"):
        load_encoder(encoder_folder)


@pytest.mark.parametrize("name", ["encoder.0.weight", "decoder.0.bias", "preprocess.high"])
def test_refuses_a_missing_tensor(encoder_folder: Path, name: str) -> None:
    rewritten(encoder_folder, tensors=lambda weights: weights.pop(name))
    with pytest.raises(ArtifactError, match=rf"{name}: expected .*, found no such tensor"):
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
def test_refuses_a_manifest_that_does_not_match_the_weights(
    encoder_folder: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    rewritten(encoder_folder, header=change)
    with pytest.raises(ArtifactError):
        load_encoder(encoder_folder)


def test_refuses_layers_that_fit_their_weights_but_not_each_other(encoder_folder: Path) -> None:
    def widen(weights: dict[str, Tensor]) -> None:
        weights["decoder.0.weight"] = torch.zeros(len(weights["decoder.0.weight"]), 7)

    rewritten(encoder_folder, tensors=widen, header=lambda header: header["decoder"][0].update(ins=7))
    with pytest.raises(ArtifactError, match="decoder layer 0 needs 7 columns, its input has 3"):
        load_encoder(encoder_folder)


def test_refuses_weights_of_a_different_format_even_if_the_digest_matches(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"\x80\x04K\x01.")  # a pickle
    seal(tmp_path, FORMAT, HEADER)
    with pytest.raises(ArtifactError, match="expected a safetensors file"):
        load_encoder(tmp_path)


def test_refuses_an_artifact_without_weights(tmp_path: Path) -> None:
    seal(tmp_path, FORMAT, HEADER)
    with pytest.raises(ArtifactError, match=r"weights\.safetensors"):
        load_encoder(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_cuda_is_refused_and_auto_is_the_cpu() -> None:
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="expected an available CUDA device, found no device"):
        resolve_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_auto_is_cuda_if_there_is_a_gpu(encoder_folder: Path) -> None:
    assert load_encoder(encoder_folder, "auto").device.type == "cuda"


COLUMNS = (Column("size"), Column("color", "categorical", ("blue", "red")))
#                  size, color
TABLE = np.array([[1, 0], [3, 1], [np.nan, 1], [2, np.nan]], np.float32)


@pytest.fixture
def table_folder(tmp_path: Path) -> Path:
    """An artifact of a table, to damage: size | is it missing? | blue | red | missing; the encoder adds them up."""
    folder = tmp_path / "table"
    folder.mkdir()
    encoder, decoder = nn.Sequential(dense([[1.0] * 5], [0])), nn.Sequential(dense([[1.0]] * 5, [0, -9, 0, 1, -9]))
    preprocess = fit_preprocessor(TABLE, "none", COLUMNS)
    write_encoder(folder, encoder, decoder, preprocess=preprocess, header=HEADER)
    return folder


def test_a_tables_preprocessing_is_json_in_the_manifest(table_folder: Path) -> None:
    manifest = json.loads((table_folder / "manifest.json").read_text())
    assert manifest["columns"] == [
        {"name": "size", "kind": "numeric", "missing": 1, "origin": 0}
        | {"offset": 0, "factor": 1, "low": 1, "high": 3, "mean": 2},
        {"name": "color", "kind": "categorical", "missing": 1, "values": ["blue", "red"], "counts": [1, 2]},
    ]
    assert not [name for name in safetensors.torch.load_file(table_folder / "weights.safetensors") if "pre" in name]


def test_rows_with_gaps_are_encoded_as_worked_out_by_hand(table_folder: Path) -> None:
    encoder = load_encoder(table_folder)
    assert encoder.columns == COLUMNS
    assert (encoder.input_shape, encoder.width, encoder.latent_dim) == ((2,), 2, 1)
    # 1 + blue; 3 + red; the mean 2, missing, and red; 2 and a missing color.
    assert encoder.encode(TABLE).tolist() == [[2], [4], [4], [3]]
    # Decoded: the sum is the size, which is present (sum - 9 < 0), and red (sum + 1) has the highest logit.
    assert encoder.reconstruct(TABLE).tolist() == [[2, 1], [4, 1], [4, 1], [3, 1]]


def test_the_origin_of_a_tables_numbers_is_in_the_manifest(table_folder: Path, tmp_path: Path) -> None:
    assert load_encoder(table_folder).origin is None
    (tmp_path / "far").mkdir()
    halves = nn.Sequential(dense([[1.0] * 5], [0])), nn.Sequential(dense([[1.0]] * 5, [0] * 5))
    preprocess = fit_preprocessor(TABLE, "none", COLUMNS, np.array([1.76e9 + 2**-20, 0]))
    write_encoder(tmp_path / "far", *halves, preprocess=preprocess, header=HEADER)
    origin = load_encoder(tmp_path / "far").origin
    assert origin is not None
    assert origin.tolist() == [1.76e9 + 2**-20, 0]


@pytest.fixture
def far_folder(tmp_path: Path) -> Path:
    """An encoder of arrays with an origin."""
    encoder = by_hand(tmp_path / "near")
    (tmp_path / "far").mkdir()
    preprocess = dataclasses.replace(encoder.preprocess, origin=np.array([1.76e9 + 2**-20, 0]))
    write_encoder(tmp_path / "far", encoder.encoder, encoder.decoder, preprocess=preprocess, header=HEADER)
    return tmp_path / "far"


def test_the_origin_of_arrays_is_stored_as_float64_with_the_weights(far_folder: Path, tmp_path: Path) -> None:
    origin = load_encoder(far_folder).origin
    assert origin is not None
    assert origin.tolist() == [1.76e9 + 2**-20, 0]
    assert origin.dtype == np.float64
    assert load_encoder(tmp_path / "near").origin is None


@pytest.mark.parametrize(
    "origin",
    [
        torch.zeros(2),
        torch.zeros(3, dtype=torch.float64),
        torch.zeros((2, 1), dtype=torch.float64),
        torch.tensor([torch.nan, 0], dtype=torch.float64),
        torch.tensor([0, torch.inf], dtype=torch.float64),
    ],
)
def test_refuses_an_origin_of_the_wrong_kind_by_name(far_folder: Path, origin: Tensor) -> None:
    rewritten(far_folder, lambda weights: weights.update({"preprocess.origin": origin}))
    with pytest.raises(ArtifactError, match=r"preprocess\.origin: expected (float64|finite)"):
        load_encoder(far_folder)


def test_an_encoder_of_arrays_has_no_columns(tmp_path: Path) -> None:
    assert by_hand(tmp_path / "e").columns == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(columns=[]),
        lambda manifest: manifest.update(columns="size, color"),
        lambda manifest: manifest["columns"].pop(),
        lambda manifest: manifest["columns"].append(manifest["columns"][0]),
        lambda manifest: manifest["columns"][0].pop("mean"),
        lambda manifest: manifest["columns"][0].update(missing=-1),
        lambda manifest: manifest["columns"][0].update(factor=0),
        lambda manifest: manifest["columns"][0].update(offset=[1]),
        lambda manifest: manifest["columns"][0].update(kind="boolean"),
        lambda manifest: manifest["columns"][1].update(values=["blue"]),
        lambda manifest: manifest["columns"][1].update(values=["blue", "blue"]),
        lambda manifest: manifest["columns"][1].update(counts=[1, -2]),
        lambda manifest: manifest["columns"][1].update(values=["a", "b", "c"], counts=[1, 2, 3]),
        lambda manifest: manifest.update(input_shape=[3]),
        lambda manifest: manifest.update(input_shape=[1, 2]),
        lambda manifest: manifest.update(scale="log"),
        lambda manifest: manifest.pop("columns"),
        lambda manifest: manifest.pop("scale"),
    ],
)
def test_refuses_a_damaged_description_of_a_table(table_folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    rewritten(table_folder, header=change)
    with pytest.raises(ArtifactError) as refused:
        load_encoder(table_folder)
    assert refused.value.field.startswith(str(table_folder))
