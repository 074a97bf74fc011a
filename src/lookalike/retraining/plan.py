"""What a retraining would do: with which rows, settings and held-out rows, before anything is trained."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.data import open_data
from lookalike.index.ann.vectors import comparable
from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import embedded
from lookalike.index.changes.holdout import choose_holdout
from lookalike.index.changes.training_snapshot import ChampionRows, TrainingSnapshot, check_whole, take_snapshot
from lookalike.index.versions.embed import suited
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.choices import DeviceName
from lookalike.training.config import TrainConfig, build_config, load_config

__all__ = ["Plan", "RetrainOptions", "config_of", "make_plan", "plain"]

NAMED = 10
"""Of the rows that are left out, the first so many are named."""


@dataclass(frozen=True)
class RetrainOptions:
    """What the user wants.

    Attributes:
        config: a TOML file; None for the champion's own settings.
        data: where the champion's rows are now; None for where they were.
        force: promote what the gate refuses.
        keep: how many versions to keep afterwards; None for all.
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
    """What a retraining would do.

    Attributes:
        settings: whose they are: "given", "the champion's" or "the defaults".
        held: (m,) rising, which rows neither the champion nor the challenger is trained on. Rows outside the range that
            the champion knows are not among them: these are neither trained on nor compared on.
    """

    champion: Version
    config: TrainConfig
    settings: str
    collection: TrainingSnapshot
    held: NDArray[np.int64]

    def told(self) -> dict[str, Any]:
        """As a manifest and a report say it."""
        its, source = self.collection, self.champion.manifest["data"]
        return {
            "name": source["name"],
            "sha256": source["sha256"],
            "sequence": its.sequence,
            "rows": its.rows.count,
            **{name: getattr(its, name) for name in ("new", "replaced", "deleted", "unreadable")},
            "held": len(self.held),
            "outside": len(its.outside),
            "outside_first": list(dict.fromkeys(str(one.id) for one in its.clipped.values))[:NAMED],
            "settings": self.settings,
        }

    def lines(self) -> list[str]:
        """For people."""
        its = self.told()
        apart = f", {its['unreadable']:,} that its encoder cannot embed left out" if its["unreadable"] else ""
        outside = f"left out, for values outside the range that the champion knows: {its['outside']:,} "
        outside += f"({self.collection.clipped.text()}); if they are right, train on them with `lookalike train`"
        table = ["columns: the champion's, by name"] if self.champion.encoder.columns else []
        return [
            f"champion: version {self.champion.number}",
            f"rows: {its['rows']:,} of {its['name']} and the changes up to {its['sequence']:,}: {its['new']:,} new, "
            f"{its['replaced']:,} replaced, {its['deleted']:,} deleted{apart}",
            f"held out of both trainings: {its['held']:,}",
            *([outside] if its["outside"] else []),
            *table,
            f"settings: {self.settings}",
        ]


def make_plan(asked: RetrainOptions, champion: Version, upto: int) -> Plan:
    """Read the rows once, and choose what to hold out.

    Raises:
        DataError: the rows are not the champion's, or cannot be read.
        ConfigError: settings that there are not.
        StoreError: the change log lacks what the champion has of it.
    """
    encoder, its, folder = champion.encoder, champion.manifest, asked.store.folder
    check_whole(folder, champion.sequence)
    config, settings = config_of(asked.config, champion)
    rows = suited(open_data(asked.data or its["data"]["name"], columns=encoder.columns), encoder)
    source = ChampionRows(rows, its["data"]["name"], its["data"]["rows"], its["data"]["sha256"])
    collection = take_snapshot(source, folder, upto, partial(_readable, champion), encoder.preprocess)
    held = choose_holdout(
        collection,
        encoder,
        folder,
        trained_to=its.get("trained_to", 0),
        share=config.data.validation,
        seed=config.fit.seed,
    )
    return Plan(champion, config, settings, collection, np.setdiff1d(held, collection.outside))


def config_of(given: Path | None, champion: Version) -> tuple[TrainConfig, str]:
    """The settings to train with, and whose they are."""
    if given:
        return load_config(given), f"those of {given.name}"
    own = champion.encoder.header.get("config")
    return (build_config(own), "the champion's") if isinstance(own, dict) else (TrainConfig(), "the defaults")


def plain(config: TrainConfig) -> dict[str, Any]:
    """The settings as plain JSON."""
    told: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return told


def _readable(champion: Version, puts: list[Change]) -> NDArray[np.bool_]:
    """(n,): as index.changes.collection has it."""
    return comparable(embedded(champion, puts))
