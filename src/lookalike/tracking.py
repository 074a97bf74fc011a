"""Register the versions of a store in MLflow: one run and one model version each, and the store's aliases."""

import os
from typing import Any

from lookalike.index.versions.manifest import VersionManifest
from lookalike.index.versions.registry import CHALLENGER, CHAMPION, VersionSummary, registry
from lookalike.index.versions.store import Store
from lookalike.training.artifact.opening import open_encoder
from lookalike.training.errors import ConfigError

__all__ = ["track"]

NUMBER, DIGEST = "lookalike.version", "lookalike.manifest"
"""The tags that identify a version."""


def track(store: Store, uri: str, name: str) -> list[int]:
    """Add the versions that the MLflow at `uri` does not have yet, and set its aliases. Nothing else is sent.

    Args:
        name: the name of the experiment and of the registered model.

    Returns:
        The numbers of the versions that were added.

    Raises:
        ConfigError: MLflow is not installed, or refuses a call.
        StoreError, ArtifactError: the store or a version is damaged.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        remedy = "pip install 'lookalike[tracking]'"
        raise ConfigError("mlflow", expected="the package", found=str(error), remedy=remedy) from error
    versions = [version for version in registry(store) if version.manifest]
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        known = _known(client, name)
        experiment = client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
        added = []
        for version in versions:
            key = (version.number, _digest(store, version))
            if key not in known:
                known[key] = _add_version(client, store, version, (experiment_id, name))
                added.append(version.number)
        roles = {version.role: known[version.number, _digest(store, version)] for version in versions if version.role}
        _set_aliases(client, name, roles)
    except MlflowException as error:
        found = str(error).splitlines()[0]
        raise ConfigError("--to", expected="an MLflow that accepts the versions", found=found) from error
    return added


def _known(client: Any, name: str) -> dict[tuple[int, str], str]:
    """The model version of each version that MLflow has. Creates the registered model if it does not exist."""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    models = client.search_model_versions(f"name = '{name}'", max_results=10_000)
    return {(int(model.tags[NUMBER]), model.tags[DIGEST]): model.version for model in models if NUMBER in model.tags}


def _digest(store: Store, version: VersionSummary) -> str:
    return (store.path(version.number) / "manifest.sha256").read_text(encoding="utf-8").split()[0]


def _add_version(client: Any, store: Store, version: VersionSummary, target: tuple[str, str]) -> str:
    """Create a run with settings, losses and evidence, and its model version; returns the model version's number.

    Args:
        target: the id of the experiment and the name of the registered model.
    """
    (experiment_id, name), manifest = target, store.manifest(version.number)
    encoder = open_encoder(store.path(version.number) / "encoder").header
    tags = {NUMBER: str(version.number), DIGEST: _digest(store, version), "lookalike.created_by": version.created_by}
    run = client.create_run(experiment_id, run_name=f"version {version.number}", tags=tags).info.run_id
    params = {
        "parent": manifest.parent,
        "sequence": manifest.sequence,
        "items": manifest.items,
        "data": manifest.data.name,
        "data.sha256": manifest.data.sha256,
        **_flatten(encoder.get("config", {})),
        **_flatten({"index": manifest.index.model_dump()}),
    }
    for key, value in params.items():
        client.log_param(run, key, str(value)[:500])
    for epoch in encoder.get("history", []):
        for key in ("train_loss", "validation_loss"):
            if epoch[key] is not None:
                client.log_metric(run, key, epoch[key], step=epoch["number"])
    for key, value in _metrics(manifest).items():
        client.log_metric(run, key, value)
    client.set_terminated(run)
    source = f"lookalike://{name}/{version.number:06d}"
    return str(client.create_model_version(name, source=source, run_id=run, tags=tags).version)


def _metrics(manifest: VersionManifest) -> dict[str, float]:
    """The evidence of a version; for a retraining also each difference from the champion and the baselines."""
    metrics: dict[str, float] = {
        f"index.{key}": getattr(manifest.evidence, key) for key in ("recall", "latency_us", "bytes")
    }
    retraining = manifest.retraining
    for measure in retraining.gate.measures if retraining and retraining.gate else ():
        metrics[f"gate.{measure.name}"] = measure.challenger
        for other in measure.compared:
            name = f"gate.{measure.name}.{other.against.replace(' ', '-')}"
            metrics |= {f"{name}.{key}": getattr(other, key) for key in ("difference", "low", "high")}
    if retraining and retraining.alignment:
        metrics |= {f"alignment.{key}": getattr(retraining.alignment, key) for key in ("recall", "churn")}
    return metrics


def _flatten(sections: dict[str, Any]) -> dict[str, Any]:
    return {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}


def _set_aliases(client: Any, name: str, roles: dict[str, str]) -> None:
    """Set the store's aliases; remove an alias that no version of the store has."""
    for alias in (CHAMPION, CHALLENGER):
        if alias in roles:
            client.set_registered_model_alias(name, alias, roles[alias])
        elif alias in client.get_registered_model(name).aliases:
            client.delete_registered_model_alias(name, alias)
