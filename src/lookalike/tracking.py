"""The versions of a store in MLflow: a run and a model version each, and the aliases that the store has."""

import os
from typing import Any

from lookalike.index.versions.manifest import VersionManifest
from lookalike.index.versions.registry import CHALLENGER, CHAMPION, VersionSummary, registry
from lookalike.index.versions.store import Store
from lookalike.training.artifact.encoder import load_encoder
from lookalike.training.errors import ConfigError

__all__ = ["track"]

NUMBER, DIGEST = "lookalike.version", "lookalike.manifest"
"""Tags by which a version is known again."""


def track(store: Store, uri: str, name: str) -> list[int]:
    """Bring to the MLflow at `uri` what it has not yet, and set its aliases; nothing else is sent anywhere.

    Args:
        name: of the experiment and of the registered model.

    Returns:
        The numbers of the versions that were new to it.

    Raises:
        ConfigError: MLflow is not installed, or refuses.
        StoreError, ArtifactError: the store, or a version.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        remedy = "pip install 'lookalike[tracking]'"
        raise ConfigError("mlflow", expected="the package", found=str(error), remedy=remedy) from error
    listed = [one for one in registry(store) if one.manifest]
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        known = _known(client, name)
        experiment = client.get_experiment_by_name(name)
        place = experiment.experiment_id if experiment else client.create_experiment(name)
        added = []
        for one in listed:
            if (one.number, _digest(store, one)) not in known:
                known[one.number, _digest(store, one)] = _added(client, store, one, (place, name))
                added.append(one.number)
        roles = {one.role: known[one.number, _digest(store, one)] for one in listed if one.role}
        _set_aliases(client, name, roles)
    except MlflowException as error:
        raise ConfigError("--to", expected="an MLflow that takes it", found=str(error).splitlines()[0]) from error
    return added


def _known(client: Any, name: str) -> dict[tuple[int, str], str]:
    """MLflow's version of each version that it has; the registered model is made where there is none."""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    found = client.search_model_versions(f"name = '{name}'", max_results=10_000)
    return {(int(one.tags[NUMBER]), one.tags[DIGEST]): one.version for one in found if NUMBER in one.tags}


def _digest(store: Store, one: VersionSummary) -> str:
    return (store.path(one.number) / "manifest.sha256").read_text(encoding="utf-8").split()[0]


def _added(client: Any, store: Store, one: VersionSummary, where: tuple[str, str]) -> str:
    """A run with settings, losses and evidence, and the model version of it, whose number is returned."""
    (place, name), manifest = where, store.manifest(one.number)
    encoder = load_encoder(store.path(one.number) / "encoder").header
    tags = {NUMBER: str(one.number), DIGEST: _digest(store, one), "lookalike.made_by": one.made_by}
    fields = {"parent": manifest.parent, "sequence": manifest.sequence, "items": manifest.items}
    data = {"data": manifest.data.name, "data.sha256": manifest.data.sha256}
    sections = {**_flat(encoder.get("config", {})), **_flat({"index": manifest.index.model_dump()})}
    run = client.create_run(place, run_name=f"version {one.number}", tags=tags).info.run_id
    for key, value in {**fields, **data, **sections}.items():
        client.log_param(run, key, str(value)[:500])
    for epoch in encoder.get("history", []):
        for key in ("train_loss", "validation_loss"):
            if epoch[key] is not None:
                client.log_metric(run, key, epoch[key], step=epoch["number"])
    for key, value in _figures(manifest).items():
        client.log_metric(run, key, value)
    client.set_terminated(run)
    source = f"lookalike://{name}/{one.number:06d}"
    return str(client.create_model_version(name, source=source, run_id=run, tags=tags).version)


def _figures(manifest: VersionManifest) -> dict[str, float]:
    """The evidence, and for a retrained version each difference to the champion."""
    figures: dict[str, float] = {
        f"index.{key}": getattr(manifest.evidence, key) for key in ("recall", "latency_us", "bytes")
    }
    retraining = manifest.retraining
    for measure in retraining.gate.measures if retraining and retraining.gate else ():
        figures[f"gate.{measure.name}"] = measure.challenger
        for other in measure.compared:
            name = f"gate.{measure.name}.{other.against.replace(' ', '-')}"
            figures |= {f"{name}.{key}": getattr(other, key) for key in ("difference", "low", "high")}
    if retraining and retraining.alignment:
        figures |= {f"alignment.{key}": getattr(retraining.alignment, key) for key in ("recall", "churn")}
    return figures


def _flat(told: dict[str, Any]) -> dict[str, Any]:
    return {f"{section}.{key}": value for section, keys in told.items() for key, value in keys.items()}


def _set_aliases(client: Any, name: str, roles: dict[str, str]) -> None:
    """As the store has them: an alias that nobody has is taken away."""
    for alias in (CHAMPION, CHALLENGER):
        if alias in roles:
            client.set_registered_model_alias(name, alias, roles[alias])
        elif alias in client.get_registered_model(name).aliases:
            client.delete_registered_model_alias(name, alias)
