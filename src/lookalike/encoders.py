"""The encoder and the rows of a build: a run, an encoder artifact, an ONNX model, or none for existing embeddings."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lookalike.data import open_data
from lookalike.index.ann.spec import Metric
from lookalike.index.versions.build import encoder_folder
from lookalike.training.artifact.given_vectors import write_vectors
from lookalike.training.artifact.opening import open_encoder
from lookalike.training.config import DataConfig
from lookalike.training.rows import Rows
from lookalike.training.transforms import InputSpec

__all__ = ["NO_ENCODER", "open_for_build"]

NO_ENCODER = "none"
"""The name that means that the rows are embeddings already."""


@contextmanager
def open_for_build(
    data: str, encoder: str, metric: Metric = "cosine", settings: DataConfig | None = None
) -> Iterator[tuple[Rows, Path]]:
    """Yield the rows of `data`, and the folder of the encoder artifact, for `index.versions.build.build`.

    Args:
        encoder: `none`, an .onnx file, or the folder of a run or of an encoder artifact. The artifact of `none` and of
            an .onnx file is in a temporary folder.
        settings: how to read `data`. An encoder artifact has its own settings; only `max_unreadable` replaces its own.

    Raises:
        DataError: the rows cannot be read, or do not fit the encoder.
        ArtifactError: there is no such encoder, or it is damaged.
    """
    if encoder != NO_ENCODER and not encoder.lower().endswith(".onnx"):
        folder = encoder_folder(Path(encoder))
        inputs, most = open_encoder(folder).inputs, settings.max_unreadable if settings else "auto"
        own = inputs.settings if most == "auto" else replace(inputs.settings, max_unreadable=most)
        yield open_data(data, own, inputs), folder
        return
    with tempfile.TemporaryDirectory(prefix="lookalike-") as made:
        folder = Path(made) / "encoder"
        folder.mkdir()
        if encoder == NO_ENCODER:
            rows = open_data(data, settings, InputSpec(vectors=True))
            write_vectors(folder, rows, directions=metric == "cosine")
        else:
            from lookalike.training.artifact.onnx_encoder import reading_settings, write_onnx

            rows = open_data(data, reading_settings(Path(encoder), settings or DataConfig()))
            write_onnx(folder, Path(encoder), rows)
        yield rows, folder
