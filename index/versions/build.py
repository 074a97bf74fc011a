"""From rows and an encoder to a measured version in the store."""

import shutil
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookalike.index.ann.embeddings import EMBEDDINGS, Embeddings, read_embeddings
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.target import Target
from lookalike.index.ann.tune import SECONDS, tune
from lookalike.index.items.previews import PreviewWriter
from lookalike.index.items.table import ItemWriter, read_items
from lookalike.index.versions.alignment_report import write_alignment
from lookalike.index.versions.embed import embeddings_file, suited
from lookalike.index.versions.embedding_cache import CachedEmbeddings, embed_with_cache, open_cache
from lookalike.index.versions.item_writers import ItemWriters
from lookalike.index.versions.manifest import DataSource, Evidence, Lineage, RetrainedRows, Retraining, Tuning
from lookalike.index.versions.novelty import NEIGHBORS, Novelty, encode_with_errors, item_distances, local_distances
from lookalike.index.versions.searching import Base, rank
from lookalike.index.versions.store import Store
from lookalike.index.versions.stored_inputs import InputWriter
from lookalike.index.versions.verdict import Verdict
from lookalike.index.versions.version import Version
from lookalike.index.versions.writer import VersionParts, write_version
from lookalike.training.array_types import Floats
from lookalike.training.artifact.opening import open_encoder
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.choices import DeviceName
from lookalike.training.errors import ArtifactError
from lookalike.training.rows import Rows, evenly
from lookalike.training.rows.unique_ids import check_unique_ids
from lookalike.training.sealed import staging

__all__ = ["BuildExtras", "RetrainingParts", "build", "encoder_folder"]

QUERIES = 1_000  # Held-out rows that the index is tuned with
FEW = 200_000  # Up to this many items, the tuner has time for all kinds of index
SECONDS_A_ROW, SECONDS_A_ROW_OF_MANY, LEAST_SECONDS = 1e-3, 2e-6, 2.0
COPIED = 1 << 16
HELD_BYTES = 1 << 25
"""At most 32 MiB of held-out rows are stored with the version, to measure it later."""


@dataclass(frozen=True)
class RetrainingParts:
    """The parts that a retraining adds to the version that is built from its encoder.

    Attributes:
        parent: the champion.
        fit_on: (n, width) rows to fit the map from the parent's embeddings on.
        held: (m, width) rows to measure the map with.
    """

    parent: Version
    job: str
    verdict: Verdict
    rows: RetrainedRows
    sequence: int
    fit_on: Floats
    held: Floats


@dataclass(frozen=True)
class BuildExtras:
    """The parts of a version besides its encoder, index and items.

    Attributes:
        inputs: whether it stores the items' inputs (index.versions.stored_inputs), unless these are embeddings already.
        retraining: set if the encoder is a retrained one.
    """

    inputs: bool = True
    retraining: RetrainingParts | None = None


def build(
    rows: Rows,
    encoder_at: Path,
    store: Store,
    *,
    metric: Metric = "cosine",
    target: Target | None = None,
    device: DeviceName = "auto",
    extras: BuildExtras | None = None,
) -> int:
    """Embed `rows`, build the index that meets the target, measure it with held-out rows, add these, and publish.

    The version keeps a preview of each photo; not if `rows.read_with_previews` is None.

    If the build is interrupted, the same call continues: embeddings that are on disk are not computed again.
    `encoder_at` is the folder of a run or of an encoder artifact. The target is a recall of at least 0.95 by default.
    Returns the number of the new version, which serves only after it is promoted. Raises DataError, ArtifactError,
    ConfigError, QueryError or TargetError: then no version was added.
    """
    target, extras, source = target or Target(), extras or BuildExtras(), encoder_folder(encoder_at)
    rows = suited(rows, open_encoder(source, device)).with_previews()  # an error is raised before anything is written
    check_unique_ids(rows)
    with staging(store.versions) as folder:
        shutil.copytree(source, folder / "encoder")
        encoder = open_encoder(folder / "encoder", device)  # the copy: a resumed run may replace the original
        with_inputs = extras.inputs and encoder.embeds  # otherwise the embeddings are the inputs
        writer = closing(InputWriter(folder, rows.count, rows.width)) if with_inputs else nullcontext()
        with open_cache(store.folder, rows, encoder, metric) as cache, writer as inputs:
            writers = ItemWriters(ItemWriter(folder, rows.name), PreviewWriter(folder), inputs)
            cached = embed_with_cache(rows, encoder, metric, cache, writers)
            writers.close(last=cached.is_held)
            embeddings = _write_embeddings(folder, cached, metric)
            parts = _measured_parts(folder, rows, cached, embeddings, encoder, target, extras.retraining)
        return write_version(store, folder, parts)


def _measured_parts(
    folder: Path,
    rows: Rows,
    cached: CachedEmbeddings,
    embeddings: Embeddings,
    encoder: RowEncoder,
    target: Target,
    retraining: RetrainingParts | None,
) -> VersionParts:
    """Tune the index without the held-out rows, calibrate novelty with these rows, and add them."""
    indexed = embeddings.head(rows.count - len(cached.held))
    late = np.arange(len(indexed), rows.count)
    held = embeddings.at(late)
    queries = held[evenly(len(late), QUERIES)]
    tuned = tune(indexed, queries, target, total=rows.count, seconds=_seconds(rows.count))
    local_scale, items = item_distances(embeddings, len(indexed)), read_items(folder)
    novelty = _calibrate(Base(tuned.index, indexed, items, local_scale), cached, encoder, held)
    tuned.index.add(held)
    stored = evenly(len(late), min(QUERIES, max(1, HELD_BYTES // (4 * rows.width))))
    source = DataSource(name=rows.name, rows=rows.count, shape=list(rows.shape), sha256=cached.digest)
    return VersionParts(
        encoder,
        Base(tuned.index, embeddings, items, local_scale),
        novelty,
        canary=cached.first,
        held=late[stored],
        held_rows=cached.held_rows[stored],
        data=retraining.parent.manifest.data if retraining else source,
        evidence=Evidence(**tuned.evidence),
        tuning=Tuning(**tuned.told(target)),
        sequence=retraining.sequence if retraining else 0,  # changes of the log are newer than the rows of a build
        lineage=_lineage(folder, embeddings, encoder, retraining) if retraining else None,
    )


def _lineage(folder: Path, embeddings: Embeddings, encoder: RowEncoder, retraining: RetrainingParts) -> Lineage:
    """Write the maps from older versions' embeddings; return the manifest's section about the retraining."""
    parent = retraining.parent
    section = Retraining(
        job=retraining.job,
        trained_to=retraining.sequence,
        gate=retraining.verdict,
        forced=not retraining.verdict.passes,
        alignment=write_alignment(folder, embeddings, encoder, parent, rows=retraining.fit_on, held=retraining.held),
        rows=retraining.rows,
    )
    return Lineage(parent=parent.number, compacted=False, retraining=section)


def encoder_folder(at: Path) -> Path:
    """Return the encoder artifact in a run's folder, or the folder itself."""
    folder = at / "encoder" if (at / "encoder").is_dir() else at
    if not folder.is_dir():
        remedy = "Train an encoder with `lookalike train`."
        raise ArtifactError(str(at), expected="the folder of a run or of an encoder", found="no folder", remedy=remedy)
    return folder


def _write_embeddings(folder: Path, cached: CachedEmbeddings, metric: Metric) -> Embeddings:
    """Write the embeddings in the order of the index, the held-out rows last, and map the file."""
    vectors, held = cached.embeddings, cached.is_held
    count, dim = vectors.shape
    with embeddings_file(folder / EMBEDDINGS, count, dim) as append:
        for start in range(0, count, COPIED):
            part = slice(start, start + COPIED)
            append(vectors[part][~held[part]])
        append(vectors[cached.held])
    return read_embeddings(folder, metric, dim)


def _calibrate(base: Base, cached: CachedEmbeddings, encoder: RowEncoder, held: Floats) -> Novelty:
    """Measure errors and distances of the held-out rows; their embeddings, (m, dim), are not in the index yet."""
    scores, positions = rank(base, held, NEIGHBORS)
    distances = local_distances(scores, base.local_scale_at(positions), base.metric)
    return Novelty.calibrate(encode_with_errors(encoder, cached.held_rows)[1], distances)


def _seconds(count: int) -> float:
    """Return the seconds that the tuner may use: of many rows, a small share of the time of the build."""
    seconds = SECONDS_A_ROW_OF_MANY * count if count > FEW else min(SECONDS, SECONDS_A_ROW * count)
    return max(LEAST_SECONDS, seconds)
