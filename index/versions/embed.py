"""Embed rows in bulk: in chunks, with progress, in constant memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lookalike.index.ann.scores import normalize
from lookalike.index.ann.spec import Metric
from lookalike.index.versions.parallel import map_in_order, one_thread_each
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.errors import DataError
from lookalike.training.progress import progress_bar
from lookalike.training.rows import Chunk, Rows
from lookalike.training.sealed import replacing

__all__ = ["embed", "embed_chunks", "embed_to_npy", "in_metric", "suited"]


def embed(encoder: Encoder, rows: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """(n, width) raw float32 -> (n, latent_dim) float32, of unit length where the metric is cosine."""
    return in_metric(encoder.encode(rows), metric)


def in_metric(latent: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """(n, latent_dim) as the metric compares them: of unit length for cosine."""
    return normalize(latent) if metric == "cosine" else latent


def embed_chunks(rows: Rows, encoder: Encoder, metric: Metric) -> Iterator[tuple[Chunk, NDArray[np.float32]]]:
    """Each chunk of rows with its embeddings, in order, under a progress bar.

    Raises:
        DataError: the rows are not what the encoder was trained on.
    """
    rows = suited(rows, encoder)

    def embedded(chunk: Chunk) -> tuple[Chunk, NDArray[np.float32]]:
        return chunk, embed(encoder, chunk.inputs, metric)

    with progress_bar("embedding", rows.count, "rows") as advance, one_thread_each(encoder.device) as threads:
        for chunk, embeddings in map_in_order(embedded, rows.chunks(), threads):
            yield chunk, embeddings
            advance(len(chunk.ids))


def embed_to_npy(rows: Rows, encoder: Encoder, metric: Metric, out: Path) -> None:
    """Write embeddings (rows, latent_dim) float32 to `out`, which appears whole or not at all."""
    header = {"shape": (rows.count, encoder.latent_dim), "fortran_order": False, "descr": "<f4"}
    if not out.parent.is_dir():
        raise DataError(str(out), expected="a path in a folder that exists", found="none there")
    if out.is_symlink() or (out.exists() and not out.is_file()):
        raise DataError(str(out), expected="a new file, or a plain one to replace", found="something else")
    with replacing(out) as new, new.open("wb") as file:
        npy.write_array_header_1_0(file, header)
        for _, embeddings in embed_chunks(rows, encoder, metric):
            file.write(embeddings.tobytes())


def suited(rows: Rows, encoder: Encoder) -> Rows:
    """The rows as the encoder takes them: of a table, its columns by name and its codes of categories; less its origin.

    Raises:
        DataError: a column is not there or of another kind, or the rows are of another width.
    """
    rows = rows.suited(encoder.columns)
    if rows.width != encoder.width:
        raise DataError(
            rows.name,
            expected=f"rows of shape {encoder.input_shape} ({encoder.width} values), as the encoder was trained on",
            found=f"{rows.shape} ({rows.width} values)",
        )
    return rows.measured_from(encoder.origin)
