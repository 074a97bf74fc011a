"""The plan of a retraining: its rows, settings and held-out rows, before anything is trained."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.data import open_inputs
from lookalike.index.ann.vectors import comparable
from lookalike.index.changes.collection import embedded
from lookalike.index.changes.holdout import choose_holdout
from lookalike.index.changes.training_snapshot import ChampionRows, TrainingSnapshot, check_whole, take_snapshot
from lookalike.index.evaluation.gate import FEWEST_ROWS
from lookalike.index.items.table import read_items
from lookalike.index.versions.embed import suited
from lookalike.index.versions.manifest import DataSource, RetrainedRows
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.array_types import Integers
from lookalike.training.choices import DeviceName
from lookalike.training.config import TrainConfig, build_config, load_config
from lookalike.training.rows import Rows
from lookalike.training.rows.sources import check_reopens

__all__ = ["Plan", "RetrainOptions", "config_of", "make_plan", "plain"]

NAMED = 10  # At most this many rows that are left out are named


@dataclass(frozen=True)
class RetrainOptions:
    """The options of the user.

    Attributes:
        config: a TOML file; None means the champion's settings.
        data: the new name of the champion's rows; None if they did not move.
        force: promote the new version even if the gate refuses it.
        keep: how many versions to keep afterwards; None means all.
    """

    store: Store
    config: Path | None = None
    data: str | None = None
    if_drifted: bool = False
    force: bool = False
    keep: int | None = None
    device: DeviceName = "auto"


@dataclass(frozen=True)
class Plan:
    """The plan of a retraining.

    Attributes:
        settings: the origin of the settings: "those of FILE", "the champion's" or "the defaults".
        held: (m,) rising, which rows neither the champion nor the challenger is trained on. Rows outside the range that
            the champion knows are not among them: they are used neither to train nor to compare.
        gained: the number of rows that the champion's data has gained since its build.
    """

    champion: Version
    config: TrainConfig
    settings: str
    collection: TrainingSnapshot
    held: Integers
    gained: int = 0

    @property
    def summary(self) -> RetrainedRows:
        """The rows of the training, for a manifest and a report."""
        rows, source = self.collection, self.champion.manifest.data
        return RetrainedRows(
            name=source.name,
            sha256=source.sha256,
            sequence=rows.sequence,
            rows=rows.rows.count,
            new=rows.new,
            replaced=rows.replaced,
            deleted=rows.deleted,
            unreadable=rows.unreadable,
            held=len(self.held),
            outside=len(rows.outside),
            outside_first=list(dict.fromkeys(str(value.id) for value in rows.clipped.values))[:NAMED],
            settings=self.settings,
        )

    def lines(self) -> list[str]:
        """Return the plan as text."""
        rows = self.summary
        unreadable = f", {rows.unreadable:,} left out that its encoder cannot embed" if rows.unreadable else ""
        few = f", too few to judge: {FEWEST_ROWS} are needed" if rows.held < FEWEST_ROWS else ""
        outside = f"left out because of values outside the range that the champion knows: {rows.outside:,} "
        outside += f"({self.collection.clipped.text()}); if they are right, train on them with `lookalike train`"
        return [
            f"champion: version {self.champion.number}",
            f"rows: {rows.rows:,} of {rows.name} and the changes up to {rows.sequence:,}: {rows.new:,} new, "
            f"{rows.replaced:,} replaced, {rows.deleted:,} deleted{unreadable}",
            f"held out of both trainings: {rows.held:,}{few}",
            *([outside] if rows.outside else []),
            *([_gained_line(self.gained, rows.name)] if self.gained else []),
            *(["columns: the champion's, by name"] if self.champion.encoder.columns else []),
            f"settings: {rows.settings}",
        ]


def make_plan(options: RetrainOptions, champion: Version, upto: int) -> Plan:
    """Read the rows once, and choose which rows to hold out.

    Raises DataError if the rows are not the champion's, or cannot be read, ConfigError for unknown or invalid settings,
    and StoreError if the change log lacks changes that the champion includes.
    """
    encoder, manifest, folder = champion.autoencoder, champion.manifest, options.store.folder
    check_whole(folder, champion.sequence)
    config, settings = config_of(options.config, champion)
    if not options.data:
        check_reopens(manifest.data.name, "Name a file with the same rows and ids with --data.")
    rows = suited(open_inputs(options.data or manifest.data.name, encoder.inputs), encoder)
    source = _source(rows, options.store, manifest.data)
    collection = take_snapshot(
        source, folder, upto, lambda puts: comparable(embedded(champion, puts)), encoder.preprocess
    )
    held = choose_holdout(
        collection, encoder, folder, trained_to=manifest.trained_to, share=config.data.validation, seed=config.fit.seed
    )
    return Plan(champion, config, settings, collection, np.setdiff1d(held, collection.outside), source.new)


def _source(rows: Rows, store: Store, data: DataSource) -> ChampionRows:
    """Return the rows of a champion in a source that may have grown.

    Their ids are the items of a version that was built from them and has no change. Without such a version, new rows
    can only come after them.
    """
    source = ChampionRows(rows, data.name, data.rows, data.sha256)
    for number in store.numbers() if source.new > 0 else ():
        manifest = store.readable_manifest(number)
        if manifest and manifest.data.sha256 == data.sha256 and not manifest.sequence:
            items = read_items(store.path(number))
            return replace(source, ids=frozenset(items.ids_at(range(len(items)))))
    return source


def _gained_line(count: int, name: str) -> str:
    return f"{name} has {count:,} new rows since the build: only those that `lookalike import` has made items are used"


def config_of(file: Path | None, champion: Version) -> tuple[TrainConfig, str]:
    """Return the settings to train with, and their origin."""
    if file:
        return load_config(file), f"those of {file.name}"
    own = champion.encoder.header.get("config")
    return (build_config(own), "the champion's") if isinstance(own, dict) else (TrainConfig(), "the defaults")


def plain(config: TrainConfig) -> dict[str, Any]:
    """Return the settings as plain JSON."""
    fields: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return fields
