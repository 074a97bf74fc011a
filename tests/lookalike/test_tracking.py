import sys
from pathlib import Path

import pytest

from lookalike.index.versions.store import Store
from tests.factories import retrained
from tests.index.versions.test_registry import copy
from tests.lookalike.helpers import refused, run

GATE = {
    "measures": [
        {
            "name": "labels",
            "challenger": 0.75,
            "compared": [{"against": "raw rows", "difference": 0.5, "low": 0.25, "high": 0.625}],
        }
    ]
}


@pytest.mark.filterwarnings("default")  # warnings of MLflow
def test_track_adds_each_version_once_with_evidence_and_aliases(store_copy: Store, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/ml.db"
    alignment = {"from": 1, "recall": 0.5, "churn": 0.25}
    copy(store_copy, 2, **retrained(1), gate=GATE, alignment=alignment)
    command = ("track", "--store", store_copy.folder, "--to", uri, "--name", "shop")
    assert run(*command).out == "[1, 2]\n"
    client = MlflowClient(uri, uri)
    models = {alias: client.get_model_version_by_alias("shop", alias) for alias in ("champion", "challenger")}
    assert {alias: model.tags["lookalike.version"] for alias, model in models.items()} == {
        "champion": "1",
        "challenger": "2",
    }
    assert models["challenger"].source == "lookalike://shop/000002"
    data = client.get_run(models["challenger"].run_id).data
    manifest = store_copy.manifest(2)
    assert (data.params["model.latent_dim"], data.params["data.sha256"]) == ("8", manifest.data.sha256)
    assert (data.params["parent"], data.tags["lookalike.came_by"]) == ("1", "retrain 1")
    assert data.metrics["index.recall"] == manifest.evidence.recall
    assert (data.metrics["gate.labels"], data.metrics["gate.labels.raw-rows.low"]) == (0.75, 0.25)
    assert (data.metrics["alignment.recall"], data.metrics["alignment.churn"]) == (0.5, 0.25)
    assert len(client.get_metric_history(models["champion"].run_id, "validation_loss")) == 3

    store_copy.promote(2)
    assert run(*command).out == "[]\n"
    assert client.get_model_version_by_alias("shop", "champion").version == models["challenger"].version
    assert client.get_registered_model("shop").aliases.keys() == {"champion"}
    assert len(client.search_model_versions("name = 'shop'")) == 2


def test_says_what_to_install_if_mlflow_is_missing(store_copy: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    refused(run("track", "--store", store_copy.folder, "--to", "sqlite:///x.db"), "pip install 'lookalike[tracking]'")
