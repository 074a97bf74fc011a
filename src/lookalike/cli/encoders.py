"""The command that writes an encoder to a file of another format."""

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.options import StoreOption, open_store, out

__all__ = ["export_encoder"]


def export_encoder(
    store: StoreOption,
    to: Annotated[Path, typer.Option("--onnx", metavar="FILE", help="The file to write.")],
    number: Annotated[
        int | None, typer.Argument(metavar="N", help="The version's number. [default: the champion's]")
    ] = None,
) -> None:
    """Write the encoder of a version as an ONNX file, with its preprocessing.

    Its embeddings equal those of POST /embed: they have length 1 if the metric is cosine. The file is compared with
    the encoder on stored rows, and appears only if both find the same neighbors.
    """
    import numpy as np

    from lookalike.training.artifact.onnx_export import export_onnx

    opened = open_store(store)
    version = opened.open(opened.champion_number() if number is None else number)
    rows = np.concatenate([version.canary, version.held])  # (n, width)
    unit_length = version.metric == "cosine"
    export_onnx(version.autoencoder, to, wanted=version.embed(rows), probe=rows, unit_length=unit_length)
    shape = ", ".join(map(str, version.encoder.input_shape))
    out.print(f"{to}: float32 (batch, {shape}) to (batch, {version.encoder.latent_dim})")
    if version.encoder.origin is not None:
        out.print("Subtract the values lookalike.origin of the file's metadata from a row first, in float64.")
