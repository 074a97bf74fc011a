"""The writer of versions: a build, a compaction and a retraining hand the parts of a version to it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookalike.index.versions.embed import embed
from lookalike.index.versions.manifest import CANARY_LIMIT, DataSource, Evidence, Lineage, Tuning
from lookalike.index.versions.novelty import NEIGHBORS, Novelty
from lookalike.index.versions.searching import Base, rank
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import CANARY, HELD, INDEX, LOCAL_SCALE, NOVELTY, canary_answer
from lookalike.training.array_types import Floats, Positions
from lookalike.training.artifact.row_encoder import RowEncoder

__all__ = ["VersionParts", "write_version"]


@dataclass(frozen=True)
class VersionParts:
    """The parts of a version besides the files that are in its folder already: encoder, embeddings, items, maps.

    Attributes:
        base: the index over all items, with the embeddings and the items of the folder.
        novelty: calibrated with held-out rows.
        canary: (1, width) a raw row.
        held: (m,) the positions of the rows that the index was measured with; `held_rows`: (m, width), those rows.
        sequence: the last change of the change log that the version includes.
    """

    encoder: RowEncoder
    base: Base
    novelty: Novelty
    canary: Floats
    held: Positions
    held_rows: Floats
    data: DataSource
    evidence: Evidence
    tuning: Tuning
    sequence: int = 0
    lineage: Lineage | None = None


def write_version(store: Store, folder: Path, parts: VersionParts) -> int:
    """Write the parts into a staged folder, seal it with its manifest and publish it; return the version's number.

    Raises StoreError if the store cannot be written.
    """
    base, encoder = parts.base, parts.encoder
    base.index.write(folder / INDEX)
    parts.novelty.save(folder / NOVELTY)
    np.save(folder / LOCAL_SCALE, base.local_scale)
    np.save(folder / CANARY, parts.canary)
    np.save(folder / HELD, parts.held_rows)
    scores, positions = rank(base, embed(encoder, parts.canary, base.metric), NEIGHBORS)  # as Searcher.search does
    return store.publish(
        folder,
        encoder=encoder.digest,
        index=dataclasses.asdict(base.index.spec),
        items=len(base.index),
        sequence=parts.sequence,
        held=parts.held.tolist(),
        data=parts.data,
        columns=encoder.header.get("columns", []),
        evidence=parts.evidence,
        tuning=parts.tuning,
        canary=canary_answer(base.items, scores[0, :CANARY_LIMIT], positions[0, :CANARY_LIMIT]),
        **({"lineage": parts.lineage} if parts.lineage else {}),  # the manifest omits what is not set
    )
