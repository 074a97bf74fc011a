"""What a GPU answers, by blocks and by graphs, is what the CPU answers."""

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
def test_a_batch_is_rounded_up_to_the_next_graph_and_a_large_one_has_none(count: int, size: int) -> None:
    assert size_for(count) == size
    assert not size or size in SIZES


def test_rows_that_grow_between_two_layers_are_answered_in_smaller_blocks() -> None:
    assert block_rows(784) == BLOCK_ROWS
    assert block_rows(1 << 20) == 32  # 128 MiB of four bytes each
    assert block_rows(1 << 40) == 1


def test_on_a_cpu_there_is_nothing_to_be_precise_about_and_nothing_to_warm(encoder_folder: Path) -> None:
    before = torch.backends.cudnn.allow_tf32
    encoder = load_encoder(encoder_folder)
    with full_precision(CPU), encoder.warming():
        assert torch.backends.cudnn.allow_tf32 == before


def rows_of(count: int, width: int = WIDTH, seed: int = 1) -> Rows2D:
    return np.random.default_rng(seed).normal(0, 1, (count, width)).astype(np.float32)


def written(
    folder: Path, rows: Rows2D, shape: tuple[int, ...], config: ModelConfig, columns: tuple[Column, ...]
) -> Path:
    """The artifact of a model that was never trained: what it answers is as hard to get right."""
    preprocess = fit_preprocessor(rows, "standard", columns)
    torch.manual_seed(0)
    model = Autoencoder(shape if not columns else (preprocess.features,), LATENT, config).eval()
    header = {"input_shape": list(shape), "latent_dim": LATENT, "output": "values"}
    folder.mkdir()
    write_encoder(folder, fold(model.encoder), fold(model.decoder), preprocess=preprocess, header=header)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """784 - 512 - 256 - 32 and back, the default."""
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
    """All its steps, for all sizes of graphs."""
    with encoder.warming():
        for size in SIZES:
            asked(encoder, np.zeros((size, encoder.width), np.float32))
    return encoder


def asked(encoder: Encoder, rows: Rows2D) -> list[Rows2D]:
    latent = encoder.encode(rows)
    answers = [latent, encoder.decode(latent)]
    return answers if encoder.columns else [*answers, *encoder.encode_with_errors(rows)]


def alike(some: list[Rows2D], others: list[Rows2D], tolerance: float = 1e-5) -> None:
    for one, other in zip(some, others, strict=True):
        assert one.dtype == np.float32
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@on_cuda
@pytest.mark.parametrize("count", COUNTS)
def test_cuda_answers_as_the_cpu(plain: Encoder, captured: Encoder, reference: Encoder, count: int) -> None:
    rows = rows_of(count)
    wanted = asked(reference, rows)
    alike(asked(plain, rows), wanted, 1e-4)
    alike(asked(captured, rows), wanted, 1e-4)


@on_cuda
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 128, 129])
def test_a_cuda_graph_answers_as_the_steps_that_it_was_made_of(plain: Encoder, captured: Encoder, count: int) -> None:
    alike(asked(captured, rows_of(count)), asked(plain, rows_of(count)))


@on_cuda
def test_on_cuda_a_row_gets_the_same_answer_whoever_shares_its_batch(captured: Encoder) -> None:
    rows = rows_of(5_000)
    whole = asked(captured, rows)
    for count in COUNTS[1:]:
        alike(asked(captured, rows[:count]), [part[:count] for part in whole])
        alike(asked(captured, rows[-count:]), [part[-count:] for part in whole])


@on_cuda
def test_what_a_cuda_graph_was_asked_before_is_in_no_later_answer(captured: Encoder) -> None:
    first = captured.encode(rows_of(7))
    captured.encode(np.full((8, WIDTH), np.nan, np.float32))
    np.testing.assert_array_equal(captured.encode(rows_of(7)), first)


@on_cuda
@pytest.mark.parametrize("way", [lambda encoder: encoder, warmed], ids=["plain", "graphs"])
def test_threads_that_share_a_cuda_device_get_their_own_answers(
    plain: Encoder, reference: Encoder, way: Callable[[Encoder], Encoder]
) -> None:
    encoder = way(plain)
    counts = [1, 5_000, 8, 64, 129, 3, 3_000, 100] * 8
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda given: encoder.encode(rows_of(given[1], seed=given[0])), enumerate(counts)))
    for seed, (count, answer) in enumerate(zip(counts, answers, strict=True)):
        np.testing.assert_allclose(answer, reference.encode(rows_of(count, seed=seed)), rtol=1e-4, atol=1e-4)


@on_cuda
def test_a_cuda_graph_can_be_captured_while_another_encoder_answers(folder: Path, reference: Encoder) -> None:
    """A version is opened and warmed in a thread while another one serves."""
    serving = warmed(load_encoder(folder, "cuda"))
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(lambda: warmed(load_encoder(folder, "cuda")))
        while not coming.done():
            np.testing.assert_allclose(serving.encode(rows_of(16)), reference.encode(rows_of(16)), atol=1e-4)
    alike(asked(coming.result(), rows_of(16)), asked(serving, rows_of(16)))


@on_cuda
@pytest.mark.parametrize("count", [1, 16, 1_000])
def test_weights_that_are_overwritten_on_cuda_change_the_answer(captured: Encoder, count: int) -> None:
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
def test_pictures_are_answered_on_cuda_in_full_precision(tmp_path: Path) -> None:
    """Convolutions would be rounded to 10 bits, and be off by a thousandth."""
    at = written(tmp_path / "conv", rows_of(200, 256, 0), (16, 16), ModelConfig(kind="conv"), ())
    rows = rows_of(70, 256)
    wanted = asked(load_encoder(at), rows)
    alike(asked(load_encoder(at, "cuda"), rows), wanted, 5e-5)
    alike(asked(warmed(load_encoder(at, "cuda")), rows), wanted, 5e-5)


@on_cuda
def test_a_table_is_answered_on_cuda_with_its_gaps_and_categories(tmp_path: Path) -> None:
    columns = (Column("size"), Column("colour", "categorical", ("blue", "red", "white")), Column("age"))
    chance = np.random.default_rng(0)
    rows = np.stack([chance.normal(0, 1, 300), chance.integers(0, 3, 300), chance.normal(5, 2, 300)], 1)
    rows = rows.astype(np.float32)
    rows[::7, 0], rows[::5, 1] = np.nan, np.nan
    at = written(tmp_path / "table", rows, (3,), ModelConfig(hidden=(8,)), columns)
    for count in (1, 9, 300):
        wanted = asked(load_encoder(at), rows[:count])
        alike(asked(load_encoder(at, "cuda"), rows[:count]), wanted, 1e-4)
        alike(asked(warmed(load_encoder(at, "cuda")), rows[:count]), wanted, 1e-4)


@on_cuda
def test_what_is_installed_for_all_is_as_it_was_after_a_cuda_answer(plain: Encoder) -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    plain.encode(rows_of(300))
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before
