"""On a GPU, blocks and graphs have the same results as the CPU."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lookalike.training.artifact.cuda import BLOCK_ROWS, SIZES, block_rows, full_precision, size_for
from lookalike.training.artifact.encoder import Encoder, load_encoder, write_encoder
from lookalike.training.artifact.export import fold
from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.config import ModelConfig
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.tables.columns import Column

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
Rows2D = NDArray[np.float32]
COUNTS = (0, 1, 2, 7, 8, 9, 128, 129, 1_024, 5_000)
WIDTH, LATENT = 784, 32
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("count", "size"), [(0, 0), (1, 1), (2, 8), (8, 8), (9, 16), (33, 64), (65, 128), (128, 128), (129, 0), (9_999, 0)]
)
def test_a_batch_is_rounded_up_to_the_next_graph_and_a_large_batch_has_none(count: int, size: int) -> None:
    assert size_for(count) == size
    assert not size or size in SIZES


def test_rows_that_grow_between_layers_have_smaller_blocks() -> None:
    assert block_rows(784) == BLOCK_ROWS
    assert block_rows(1 << 20) == 32  # 128 MiB of four bytes each
    assert block_rows(1 << 40) == 1


def test_on_a_cpu_full_precision_and_warming_do_nothing(encoder_folder: Path) -> None:
    before = torch.backends.cudnn.allow_tf32
    encoder = load_encoder(encoder_folder)
    with full_precision(CPU), encoder.warming():
        assert torch.backends.cudnn.allow_tf32 == before


def rows_of(count: int, width: int = WIDTH, seed: int = 1) -> Rows2D:
    return np.random.default_rng(seed).normal(0, 1, (count, width)).astype(np.float32)


def written(
    folder: Path, rows: Rows2D, shape: tuple[int, ...], config: ModelConfig, columns: tuple[Column, ...]
) -> Path:
    """The artifact of an untrained model, whose results are as hard to reproduce."""
    preprocess = fit_preprocessor(rows, "standard", columns)
    torch.manual_seed(0)
    model = Autoencoder(shape if not columns else (preprocess.features,), LATENT, config).eval()
    header = {"input_shape": list(shape), "latent_dim": LATENT, "output": "values"}
    folder.mkdir()
    write_encoder(folder, fold(model.encoder), fold(model.decoder), preprocess=preprocess, header=header)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default, 784 - 512 - 256 - 32, and its mirror image."""
    at = tmp_path_factory.mktemp("cuda") / "dense"
    return written(at, rows_of(500, seed=0), (WIDTH,), ModelConfig(), ())


@pytest.fixture(scope="module")
def reference(folder: Path) -> Encoder:
    return load_encoder(folder, "cpu")


@pytest.fixture
def plain(folder: Path) -> Encoder:
    return load_encoder(folder, "cuda")


@pytest.fixture
def captured(folder: Path) -> Encoder:
    return warmed(load_encoder(folder, "cuda"))


def warmed(encoder: Encoder) -> Encoder:
    """Capture all steps of an encoder for all graph sizes."""
    with encoder.warming():
        for size in SIZES:
            outputs(encoder, np.zeros((size, encoder.width), np.float32))
    return encoder


def outputs(encoder: Encoder, rows: Rows2D) -> list[Rows2D]:
    latent = encoder.encode(rows)
    results = [latent, encoder.decode(latent)]
    if encoder.columns:
        return results
    latent, errors = encoder.encode_with_errors(rows)
    return [*results, latent, np.asarray(errors, np.float32)]


def assert_close(actual: list[Rows2D], expected: list[Rows2D], tolerance: float = 1e-5) -> None:
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == np.float32
        assert a.shape == e.shape
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance)


@on_cuda
@pytest.mark.parametrize("count", COUNTS)
def test_cuda_has_the_same_results_as_the_cpu(
    plain: Encoder, captured: Encoder, reference: Encoder, count: int
) -> None:
    rows = rows_of(count)
    expected = outputs(reference, rows)
    assert_close(outputs(plain, rows), expected, 1e-4)
    assert_close(outputs(captured, rows), expected, 1e-4)


@on_cuda
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 128, 129])
def test_a_cuda_graph_has_the_same_results_as_its_steps(plain: Encoder, captured: Encoder, count: int) -> None:
    assert_close(outputs(captured, rows_of(count)), outputs(plain, rows_of(count)))


@on_cuda
def test_on_cuda_a_row_has_the_same_result_in_every_batch(captured: Encoder) -> None:
    rows = rows_of(5_000)
    whole = outputs(captured, rows)
    for count in COUNTS[1:]:
        assert_close(outputs(captured, rows[:count]), [part[:count] for part in whole])
        assert_close(outputs(captured, rows[-count:]), [part[-count:] for part in whole])


@on_cuda
def test_a_cuda_graph_does_not_mix_earlier_input_into_a_result(captured: Encoder) -> None:
    first = captured.encode(rows_of(7))
    captured.encode(np.full((8, WIDTH), np.nan, np.float32))
    np.testing.assert_array_equal(captured.encode(rows_of(7)), first)


@on_cuda
@pytest.mark.parametrize("prepare", [lambda encoder: encoder, warmed], ids=["plain", "graphs"])
def test_threads_that_share_a_cuda_device_get_separate_results(
    plain: Encoder, reference: Encoder, prepare: Callable[[Encoder], Encoder]
) -> None:
    encoder = prepare(plain)
    counts = [1, 5_000, 8, 64, 129, 3, 3_000, 100] * 8
    with ThreadPoolExecutor(2) as pool:
        results = list(
            pool.map(lambda numbered: encoder.encode(rows_of(numbered[1], seed=numbered[0])), enumerate(counts))
        )
    for seed, (count, result) in enumerate(zip(counts, results, strict=True)):
        np.testing.assert_allclose(result, reference.encode(rows_of(count, seed=seed)), rtol=1e-4, atol=1e-4)


@on_cuda
def test_a_cuda_graph_can_be_captured_while_a_different_encoder_runs(folder: Path, reference: Encoder) -> None:
    """A version is opened and warmed in a thread while a different version serves."""
    serving = warmed(load_encoder(folder, "cuda"))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: warmed(load_encoder(folder, "cuda")))
        while not future.done():
            np.testing.assert_allclose(serving.encode(rows_of(16)), reference.encode(rows_of(16)), atol=1e-4)
    assert_close(outputs(future.result(), rows_of(16)), outputs(serving, rows_of(16)))


@on_cuda
@pytest.mark.parametrize("count", [1, 16, 1_000])
def test_weights_that_are_overwritten_on_cuda_change_the_result(captured: Encoder, count: int) -> None:
    rows = rows_of(count)
    before = captured.encode(rows)
    weight = next(captured.encoder.parameters())
    with torch.no_grad():
        weight[0, 0] += 1
    torch.cuda.synchronize()
    assert np.abs(captured.encode(rows) - before).max() > 1e-3
    with torch.no_grad():
        weight[0, 0] -= 1
    torch.cuda.synchronize()
    np.testing.assert_allclose(captured.encode(rows), before, atol=1e-5)


@on_cuda
def test_pictures_are_encoded_on_cuda_in_full_precision(tmp_path: Path) -> None:
    """Without it, convolutions would be rounded to 10 bits and differ by a thousandth."""
    at = written(tmp_path / "conv", rows_of(200, 256, 0), (16, 16), ModelConfig(kind="conv"), ())
    rows = rows_of(70, 256)
    expected = outputs(load_encoder(at), rows)
    assert_close(outputs(load_encoder(at, "cuda"), rows), expected, 5e-5)
    assert_close(outputs(warmed(load_encoder(at, "cuda")), rows), expected, 5e-5)


@on_cuda
def test_a_table_with_gaps_and_categories_is_encoded_on_cuda(tmp_path: Path) -> None:
    columns = (Column("size"), Column("color", "categorical", ("blue", "red", "white")), Column("age"))
    chance = np.random.default_rng(0)
    rows = np.stack([chance.normal(0, 1, 300), chance.integers(0, 3, 300), chance.normal(5, 2, 300)], 1)
    rows = rows.astype(np.float32)
    rows[::7, 0], rows[::5, 1] = np.nan, np.nan
    at = written(tmp_path / "table", rows, (3,), ModelConfig(hidden=(8,)), columns)
    for count in (1, 9, 300):
        expected = outputs(load_encoder(at), rows[:count])
        assert_close(outputs(load_encoder(at, "cuda"), rows[:count]), expected, 1e-4)
        assert_close(outputs(warmed(load_encoder(at, "cuda")), rows[:count]), expected, 1e-4)


@on_cuda
def test_a_cuda_run_restores_the_global_settings(plain: Encoder) -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    plain.encode(rows_of(300))
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before
