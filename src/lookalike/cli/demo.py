"""The demo: all steps on one data set, with a table that compares the encoders."""

import json
from pathlib import Path

from rich.console import Console

from lookalike.cli.tables import columns_line, scores_table
from lookalike.data import note_skipped, open_data
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.config import load_config
from lookalike.training.errors import ResumeError
from lookalike.training.evaluation.judge import (
    NoiseTest,
    add_noise,
    move,
    score_descriptor,
    score_encoder,
    score_pca,
    score_raw,
)
from lookalike.training.fit.job import TrainedRun, train
from lookalike.training.fit.split import Split
from lookalike.training.models.descriptors import WithDescriptor
from lookalike.training.rows import Rows, open_rows, read_sample
from lookalike.training.rows.builtin import BUILTIN
from lookalike.training.tables.columns import to_json_rows
from lookalike.training.tables.origin import absolute

__all__ = ["run_demo"]


def run_demo(data: str, store_at: Path, overrides: list[str], out: Console) -> Path:
    """Train, print the table, build and promote a version; return the file of a query.

    A built-in set also trains a standard autoencoder, to show what denoising adds. `overrides`: settings as
    `section.key=value`.
    """
    rows = open_data(data, load_config(None, overrides).data)
    if rows.columns:
        out.print(f"input: {columns_line(rows.columns)}")
    encoders = {}
    if rows.name in BUILTIN:
        settings = [*overrides, "corruption.kind=none"]
        encoders["standard"] = _train(rows, store_at / "runs" / "standard", settings, out).encoder
    run = _train(rows, store_at / "runs" / "denoising", overrides, out)
    encoder = encoders["denoising"] = run.encoder
    noise_test = _noise_test(rows, run.split, encoder)
    described = score_descriptor(encoder, noise_test, run.split.train)
    scores = [
        score_raw(noise_test, encoder.preprocess),
        score_pca(encoder.latent_dim, encoder.preprocess, noise_test, run.split.train),
        *([described] if described else []),
        *(score_encoder(name, encoder, noise_test) for name, encoder in encoders.items()),
    ]
    out.print(scores_table(scores))
    store = Store(store_at)
    number = build(rows, run.folder, store)
    note_skipped(rows, store_at)
    store.promote(number)
    out.print(f"version {number} of {rows.name} built, verified and promoted in {store_at}")
    query = absolute(noise_test.queries[:1], encoder.origin)
    path = store_at / "query.json"
    path.write_text(json.dumps({"inputs": to_json_rows(query, encoder.columns), "limit": 3}) + "\n", encoding="utf-8")
    return path.resolve()


def _train(rows: Rows, run: Path, overrides: list[str], out: Console) -> TrainedRun:
    """Train, or resume an interrupted run of an earlier demo. A finished run is not trained again."""
    out.print(f"{run.name} autoencoder on {rows.name}")
    try:
        done = train(rows, load_config(None, overrides), run, resume=run.exists())
    except ResumeError as error:
        error.remedy = f"Remove {run.parent}, or choose another --store."
        raise
    if done.state.stopped == "interrupted":
        raise KeyboardInterrupt
    return done


def _noise_test(rows: Rows, split: Split, encoder: Encoder) -> NoiseTest:
    """Queries and items for the table: a built-in set's test and training parts, else the held-out and other rows."""
    if rows.name in BUILTIN:
        items, item_labels = read_sample(rows, rows.count, 0)
        queries, query_labels = read_sample(test := open_rows(f"{rows.name}:test"), test.count, 0)
    else:
        items, item_labels = split.train, split.train_labels
        queries, query_labels = split.validation, split.validation_labels
    noisy = add_noise(queries, encoder.preprocess)
    described = isinstance(encoder.encoder[0], WithDescriptor)
    moved = move(queries, encoder.preprocess, encoder.input_shape) if described else None
    return NoiseTest(items, queries, noisy, item_labels, query_labels, moved)
