"""Embed rows in bulk: in chunks, with progress, in constant memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from lookalike.index.ann.scores import normalize
from lookalike.index.ann.spec import Metric
from lookalike.index.versions.parallel import one_thread_each
from lookalike.training.array_types import Floats
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.errors import DataError
from lookalike.training.parallel import map_in_order
from lookalike.training.progress import progress_bar
from lookalike.training.rows import Chunk, Rows
from lookalike.training.sealed import replacing
from lookalike.training.tables.origin import relative

__all__ = ["check_output", "embed", "embed_chunks", "embed_to_npy", "embeddings_file", "in_metric", "suited"]


def embed(encoder: RowEncoder, rows: Floats, metric: Metric) -> Floats:
    """(n, width) raw float32 -> (n, latent_dim) float32, of unit length if the metric is cosine."""
    return in_metric(encoder.encode(rows), metric)


def in_metric(latent: Floats, metric: Metric) -> Floats:
    """(n, latent_dim) -> the same, normalized if the metric is cosine."""
    return normalize(latent) if metric == "cosine" else latent


def embed_chunks(rows: Rows, encoder: RowEncoder, metric: Metric) -> Iterator[tuple[Chunk, Floats]]:
    """Yield each chunk of rows with its embeddings, in order. Raises DataError if the rows do not fit the encoder."""
    rows = suited(rows, encoder)

    with progress_bar("embedding", rows.count, "rows") as advance, one_thread_each(encoder.device) as threads:
        for pair in map_in_order(lambda chunk: (chunk, embed(encoder, chunk.inputs, metric)), rows.chunks(), threads):
            yield pair
            advance(len(pair[0].ids))


def embed_to_npy(rows: Rows, encoder: RowEncoder, metric: Metric, out: Path) -> None:
    """Write embeddings (rows, latent_dim) float32 to `out`, which appears whole or not at all."""
    check_output(out)
    with replacing(out) as new, embeddings_file(new, rows.count, encoder.latent_dim) as append:
        for _, embeddings in embed_chunks(rows, encoder, metric):
            append(embeddings)


@contextmanager
def embeddings_file(path: Path, count: int, dim: int) -> Iterator[Callable[[Floats], Any]]:
    """Open a .npy file for (count, dim) float32, and yield the function that appends a block, (n, dim)."""
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, {"shape": (count, dim), "fortran_order": False, "descr": "<f4"})
        yield lambda block: file.write(np.ascontiguousarray(block).data)


def check_output(out: Path) -> None:
    """Raises DataError unless `out` is a new file, or a file to replace, in a folder that exists."""
    if not out.parent.is_dir():
        raise DataError(str(out), expected="a path in a folder that exists", found="no such folder")
    if out.is_symlink() or (out.exists() and not out.is_file()):
        raise DataError(str(out), expected="a new file, or a regular file to replace", found="no regular file")


def suited(rows: Rows, encoder: RowEncoder) -> Rows:
    """Return the rows as the encoder needs them: columns matched by name, its category codes, its origin subtracted.

    Raises DataError if a column is missing or of another kind, or the rows have another width; a chunk raises it for a
    row that the encoder refuses.
    """
    rows = rows.suited(encoder.inputs)
    if rows.width != encoder.width:
        expected = f"rows of shape {encoder.input_shape} ({encoder.width} values), as the encoder reads them"
        raise DataError(rows.name, expected=expected, found=f"{rows.shape} ({rows.width} values)")
    return rows.measured_from(encoder.origin) if encoder.kind == "autoencoder" else _without_refused(rows, encoder)


def _without_refused(rows: Rows, encoder: RowEncoder) -> Rows:
    def read(size: int) -> Iterator[Chunk]:
        first = 0
        for chunk in rows.read(size):
            inputs = relative(chunk.inputs, None)  # (n, width)
            if refused := encoder.first_refused(inputs):
                row = f"{rows.name}, row {first + refused.row}, id {chunk.ids[refused.row][:40]!r}"
                raise DataError(row, refused.expected, refused.found, refused.remedy)
            first += len(inputs)
            yield replace(chunk, inputs=inputs)

    return replace(rows, read=read)
