import dataclasses
import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.config import TrainConfig, load_config
from tests.factories import blobs
from tests.lookalike.helpers import refused, run, save
from tests.service.process import running

HELP = {
    "demo": ["DATA", "--store", "--no-serve", "--host", "--port"],
    "train": ["DATA", "--run", "--config", "--set", "--resume", "model.latent_dim=32"],
    "settings": ["--config"],
    "rates": ["DATA", "--config", "--set", "--picture"],
    "doctor": ["RUN", "--fix"],
    "explain": ["TOPIC", "--picture", "--page"],
    "build": [
        *("DATA", "--encoder", "--store", "--metric", "cosine|l2|ip", "--recall", "--memory", "--latency-us"),
        *("--index", "--no-previews", "--no-inputs", "--columns", "--set", "--device", "none", ".onnx"),
    ],
    "versions": ["--store"],
    "promote": ["N", "--store"],
    "rollback": ["--store"],
    "evaluate": ["N", "--store", "--queries", "--device"],
    "embed": ["DATA", "--store", "--out", "--device"],
    "search": ["DATA", "--store", "--id", "--row", "--limit", "--filter", "--no-distinct", "--exclude", "--device"],
    "why": ["A", "B", "--store", "--limit", "--json", "--device"],
    "duplicates": ["--store", "--threshold"],
    "import": ["DATA", "--store", "--again", "--device", "interrupted,"],
    "export": ["--store", "--out", "F.parquet", "--device", "interrupted,"],
    "compact": ["--store"],
    "drift": ["--store", "Exit code 0", "10: the queries have"],
    "retrain": ["--store", "--config", "--if-drifted", "--dry-run", "--force"],
    "prune": ["--store"],
    "track": ["--store", "--to", "--name", "MLflow"],
    "export-encoder": ["N", "--store", "--onnx"],
    "serve": ["--store", "--host", "--port", "--keys", "--tls-cert", "--tls-key", "LOOKALIKE_API_KEY"],
    "keys": ["add", "list", "remove"],
}
QUICK = ("--set", "model.hidden=[16]", "--set", "model.latent_dim=4", "--set", "fit.epochs=2")


@pytest.fixture(scope="module")
def version(tiny_store: Store) -> Version:
    return tiny_store.open_champion()


def test_the_help_names_every_command() -> None:
    done = run("--help")
    assert done.code == 0
    listed = done.out.partition("Commands:")[2].splitlines()
    assert [line.split()[0] for line in listed if line.strip()] == list(HELP)


@pytest.mark.parametrize("command", HELP)
def test_the_help_of_a_command_names_its_options(command: str) -> None:
    done = run(command, "--help")
    assert (done.code, done.err) == (0, "")
    for word in HELP[command]:
        assert word in done.out


def test_train_build_promote_and_rollback(tmp_path: Path) -> None:
    store, runs = tmp_path / "store", tmp_path / "run"
    (tmp_path / "F.toml").write_text('[loss]\nkind = "mae"\n[fit]\nepochs = 9\n')
    trained = run("train", "digits", "--run", runs, "--config", tmp_path / "F.toml", *QUICK)
    assert trained.code == 0, trained.err
    assert trained.out.startswith("2 epochs (finished), best epoch 2: validation loss ")
    settings = json.loads((runs / "encoder" / "manifest.json").read_text())["config"]
    assert (settings["loss"]["kind"], settings["fit"]["epochs"], settings["model"]["hidden"]) == ("mae", 2, [16])

    assert run("build", "digits", "--encoder", runs, "--store", store).out == "1\n"
    assert run("build", "digits:test", "--encoder", runs / "encoder", "--store", store, "--metric", "l2").out == "2\n"
    refused(run("embed", "digits", "--store", store, "--out", tmp_path / "E.npy"), "promoted")

    assert run("promote", 1, "--store", store).out == "champion: version 1\n"
    assert run("promote", 2, "--store", store).out == "champion: version 2\n"
    champions = [line for line in run("versions", "--store", store).out.splitlines() if "champion" in line]
    assert len(champions) == 1
    cells = [cell.strip() for cell in champions[0].strip("│").split("│")]
    assert cells[:4] == ["2", "champion", "build", "1"]
    assert cells[4].startswith("digits:test ")
    assert cells[5:9] == ["360", "0", "Flat", "l2"]
    assert run("rollback", "--store", store).out == "champion: version 1\n"
    refused(run("rollback", "--store", store), "champion that replaced")


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ([], {"recall": 0.95, "memory": None, "latency_us": None, "key": None}),
        (["--index", "HNSW16"], {"recall": 0.95, "memory": None, "latency_us": None, "key": "HNSW16"}),
        (
            ["--recall", "0.5", "--memory", "1.5MB", "--latency-us", "1e9", "--index", "SQ8"],
            {"recall": 0.5, "memory": 1_500_000, "latency_us": 1e9, "key": "SQ8"},
        ),
    ],
)
def test_build_meets_its_target_and_prints_the_reason(
    tiny_run: Path, tmp_path: Path, options: list[str], target: dict[str, Any]
) -> None:
    done = run("build", "digits:test", "--encoder", tiny_run, "--store", tmp_path, *options)
    assert (done.code, done.out) == (0, "1\n"), done.err
    manifest = Store(tmp_path).manifest(1)
    index, tuning = manifest.index, manifest.tuning
    assert tuning.target.model_dump() == target
    assert index.key == (target["key"] or "Flat")
    assert tuning.chosen.low >= target["recall"]
    told = f"{index.key} {index.search}".strip() + ": recall "
    (line,) = (line for line in done.err.splitlines() if line.startswith(told))
    assert line.endswith("the only trial") or "trials that meet the target" in line


def test_refuses_an_unreachable_target_and_suggests_a_reachable_one(tiny_run: Path, tmp_path: Path) -> None:
    build = ("build", "digits:test", "--encoder", tiny_run, "--store", tmp_path)
    done = run(*build, "--memory", "2KB")
    refused(done, "expected recall 0.95 within 2,000 bytes")
    (reachable,) = re.findall(r"--memory \d+", done.err)
    assert Store(tmp_path).numbers() == []
    assert run(*build, *reachable.split()).out == "1\n"


def test_doctor_has_no_finding_for_a_healthy_run(tmp_path: Path) -> None:
    rows, more = save(tmp_path / "R.npy", blobs(400)), ("--set", "fit.epochs=20")
    trained = run("train", rows, "--run", tmp_path / "run", *QUICK, *more)
    assert trained.code == 0, trained.err
    assert len(trained.out.splitlines()) == 1
    assert run("doctor", tmp_path / "run").out.startswith("No finding: the best validation loss is ")
    done = run("doctor", tmp_path / "run", "--fix")
    assert (done.code, "found a healthy run" in done.err) == (2, True)


def test_doctor_names_the_cause_and_fix_follows_the_advice(tmp_path: Path) -> None:
    rows, folder = save(tmp_path / "R.npy", blobs()), tmp_path / "run"
    trained = run("train", rows, "--run", folder, *QUICK, "--set", "model.activation=linear")
    findings = run("doctor", folder)
    assert (trained.code, findings.code, findings.err) == (0, 0, "")
    assert findings.out.startswith("missing-activations (certain)\n  seen    4 weight matrices in a row act as one")
    assert trained.out.endswith(f"\n\n{findings.out}")
    fixed = run("doctor", folder, "--fix")
    assert fixed.code == 0, fixed.err
    assert fixed.out.startswith(f"{findings.out}missing-activations: --set model.activation=silu\n")
    assert fixed.out.endswith(f"the second run is in {tmp_path / 'run-fixed'}\n")
    assert "missing-activations" not in run("doctor", tmp_path / "run-fixed").out


def test_doctor_diagnoses_a_run_that_was_stopped_as_hopeless(tmp_path: Path) -> None:
    fast = ("--set", "optimizer.kind=sgd", "--set", "optimizer.lr=1e20")
    trained = run("train", save(tmp_path / "R.npy", blobs()), "--run", tmp_path / "run", *QUICK, *fast)
    refused(trained, "learning-rate-too-high: expected a run that learns")
    findings = run("doctor", tmp_path / "run")
    assert findings.code == 0
    assert findings.out.startswith(
        "learning-rate-too-high (likely)\n  seen    at a learning rate of 1e+20 the loss became"
    )
    assert "  change  --set optimizer.lr=1\n  more    lookalike explain learning-rate\n" in findings.out


def test_settings_prints_a_config_file_of_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "all.toml").write_text(run("settings").out)
    assert load_config(tmp_path / "all.toml") == TrainConfig()
    printed = tomllib.loads((tmp_path / "all.toml").read_text())
    fields = {part.name: set(part.default_factory.__dataclass_fields__) for part in dataclasses.fields(TrainConfig)}  # type: ignore[union-attr]
    assert {section: set(keys) for section, keys in printed.items()} == fields
    lines = (tmp_path / "all.toml").read_text().splitlines()
    assert lines[lines.index('kind = "adam"') - 1] == '# "adam" | "adamw" | "sgd"'
    assert lines[lines.index('latent_dim = "auto"') - 1] == '# an integer >= 1 <= 65,536, or "auto"'
    assert lines[lines.index("dropout = 0.0") - 1] == "# a number >= 0 < 1"


@pytest.mark.parametrize("command", [("rates", "digits"), ("explain", "autoencoders")])
def test_refuses_a_picture_in_a_missing_folder_before_the_work(command: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*command, "--picture", tmp_path / "absent" / "p.png")
    assert (done.code, "experiment" in done.out) == (2, "experiment" in run("explain", command[1], "--page").out)
    assert "--picture" in done.err
    assert "expected a file in an existing folder" in done.err


def test_resume_without_a_checkpoint_starts_a_new_run_and_says_so(tmp_path: Path) -> None:
    started = run("train", save(tmp_path / "R.npy", blobs()), "--run", tmp_path / "run", *QUICK, "--resume")
    assert "run has no checkpoint: a new run begins" in started.err
    other = run("train", tmp_path / "R.npy", "--run", tmp_path / "run", *QUICK, "--set", "fit.seed=9", "--resume")
    refused(other, "config.fit.seed, data.sha256: expected the settings and data that the run began with")


def test_evaluate_queries_with_items_or_with_other_rows(tiny_store: Store) -> None:
    for more, queries in (([], "143"), (["--queries", "digits:test"], "360")):
        done = run("evaluate", 1, "--store", tiny_store.folder, *more)
        cells = {
            line.split("│")[1].strip(): line.split("│")[3].strip() for line in done.out.splitlines() if "│" in line
        }
        assert cells["embedding -> index: recall@10"] == "1.0000"
        assert cells["queries"] == queries
        assert 0 < float(cells["both: label precision@10"]) <= 1
        probes = {f"{name} accuracy" for name in ("linear probe", "MLP probe", "k-NN")} & cells.keys()
        assert len(probes) == (3 if more else 0)  # items train the probes, so they cannot test them
        assert all(0.5 < float(cells[probe]) <= 1 for probe in probes)


def test_embed_writes_what_the_version_embeds(tiny_store: Store, version: Version, tmp_path: Path) -> None:
    rows = blobs(50, 64)
    done = run("embed", save(tmp_path / "R.npy", rows), "--store", tiny_store.folder, "--out", tmp_path / "E.npy")
    assert (done.code, done.out) == (0, "")
    embeddings = np.load(tmp_path / "E.npy")
    assert (embeddings.shape, embeddings.dtype.str) == ((50, 8), "<f4")
    np.testing.assert_allclose(embeddings, version.embed(rows), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_duplicates_prints_one_json_object_per_group(tiny_store: Store, version: Version) -> None:
    done = run("duplicates", "--store", tiny_store.folder, "--threshold", "0.99")
    groups = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 0
    assert len(groups) >= 1
    for group in groups:
        first = version.items.positions(group["ids"])
        vectors = version.embeddings.at(first)
        assert group["scores"] == pytest.approx((vectors @ vectors[0]).tolist(), abs=1e-5)
    assert f"{len(groups):,} groups of " in done.err
    assert "threshold 0.99" in done.err
    assert run("duplicates", "--store", tiny_store.folder).code == 0
    refused(run("duplicates", "--store", tiny_store.folder, "--threshold", "near"), "--threshold: expected auto or a")
    refused(
        run("duplicates", "--store", tiny_store.folder, "--threshold", "7"), "threshold: expected auto, or a cosine"
    )


def test_search_with_rows_prints_one_json_object_per_query(tiny_store: Store, version: Version, tmp_path: Path) -> None:
    rows = blobs(5, 64)
    done = run("search", save(tmp_path / "R.npy", rows), "--store", tiny_store.folder, "--limit", 3)
    queries = [json.loads(line) for line in done.out.splitlines()]
    assert [query["query"] for query in queries] == ["0", "1", "2", "3", "4"]
    scores, positions = version.embeddings.nearest(version.embed(rows), 3)
    for query, row, places in zip(queries, scores, positions, strict=True):
        np.testing.assert_allclose([hit["score"] for hit in query["hits"]], row, atol=1e-5)
        assert [hit["id"] for hit in query["hits"]] == [version.items.id_at(int(p)) for p in places]
        assert [hit["payload"] for hit in query["hits"]] == [version.items.payload_at(int(p)) for p in places]


def test_search_with_ids_excludes_the_item_itself(tiny_store: Store, version: Version) -> None:
    ids = [version.items.id_at(i) for i in (0, 9)]
    done = run("search", "--store", tiny_store.folder, *(word for name in ids for word in ("--id", name)))
    queries = [json.loads(line) for line in done.out.splitlines()]
    assert [query["query"] for query in queries] == ids
    for query in queries:
        scores = [hit["score"] for hit in query["hits"]]
        assert len(scores) == 10
        assert scores == sorted(scores, reverse=True)
        assert query["query"] not in {hit["id"] for hit in query["hits"]}


def test_search_leaves_out_windows_near_the_item_and_near_better_hits(window_store: Store) -> None:
    def found(*options: object) -> list[tuple[str, int]]:
        done = run("search", "--store", window_store.folder, "--id", "r3@20", "--limit", 20, *options)
        return [(hit["payload"]["recording"], hit["payload"]["start"]) for hit in json.loads(done.out)["hits"]]

    def near(places: list[tuple[str, int]]) -> bool:
        return any(a == b and abs(s - t) < 8 for n, (a, s) in enumerate(places) for b, t in places[:n])

    assert not near([("r3", 20), *found()])
    assert near([("r3", 20), *found("--no-distinct")])
    assert all(abs(start - 20) >= 18 for name, start in found("--exclude", 10) if name == "r3")
    refused(run("search", "--store", window_store.folder, "--id", "r3@20", "--exclude", "30s"), "a number of samples")


def test_search_with_a_filter_returns_only_matching_items(tiny_store: Store, version: Version, tmp_path: Path) -> None:
    threes = '{"field": "label", "equal": 3}'
    rows = save(tmp_path / "R.npy", blobs(3, 64))
    labels = np.array([version.items.payload_at(i)["label"] for i in range(len(version.items))])
    _, wanted = version.embeddings.nearest(version.embed(blobs(3, 64)), 4, np.flatnonzero(labels == 3))
    done = run("search", rows, "--store", tiny_store.folder, "--limit", 4, "--filter", threes)
    found = [[hit["id"] for hit in json.loads(line)["hits"]] for line in done.out.splitlines()]
    assert found == [[version.items.id_at(int(p)) for p in places] for places in wanted]
    item = version.items.id_at(int(np.flatnonzero(labels == 3)[0]))
    (line,) = run("search", "--store", tiny_store.folder, "--id", item, "--filter", threes).out.splitlines()
    hits = json.loads(line)["hits"]
    assert len(hits) == 10
    assert {hit["payload"]["label"] for hit in hits} == {3}
    assert item not in {hit["id"] for hit in hits}


def test_serve_serves_the_champion(tiny_store: Store) -> None:
    with running("serve", "--store", str(tiny_store.folder), "--port", "0") as process:
        assert process.lines == [f"version 1 at {process.url}, Ctrl-C to stop\n"]
        assert process.stop()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (["train", "none.csv", "--run", "{new}"], "none.csv"),
        (["train", "digits:all", "--run", "{new}"], "digits:all"),
        (["train", "digits", "--run", "{run}"], "--resume"),
        (["train", "digits", "--run", "{new}", "--set", "model.latent=3"], "model.latent"),
        (["train", "digits", "--run", "{new}", "--set", "nonsense"], "section.key=value"),
        (["train", "digits", "--run", "{new}", "--config", "none.toml"], "none.toml"),
        (["train", "{text}", "--run", "{new}"], "rows.txt"),
        (["doctor", "{new}"], "found no checkpoint"),
        (["doctor", "{text}"], "found no checkpoint"),
        (["doctor", "{store}", "--fix"], "found no checkpoint"),
        (["build", "digits", "--encoder", "{new}", "--store", "{new}"], "lookalike train"),
        (["build", "{narrow}", "--encoder", "{run}", "--store", "{new}"], "rows of shape (8, 8)"),
        (["build", "{wide}", "--encoder", "{run}", "--store", "{new}", "--recall", "1.2"], "target.recall"),
        (["build", "{wide}", "--encoder", "{run}", "--store", "{new}", "--recall", "0"], "target.recall"),
        (["build", "{wide}", "--encoder", "{run}", "--store", "{new}", "--memory", "much"], "such as 64MB"),
        (["build", "{wide}", "--encoder", "{run}", "--store", "{new}", "--memory", "0"], "target.memory"),
        (
            ["build", "{wide}", "--encoder", "{run}", "--store", "{new}", "--memory", "9"],
            "Relax one of them: --memory",
        ),
        (["build", "{wide}", "--encoder", "{run}", "--store", "{new}", "--latency-us", "-1"], "target.latency_us"),
        (["build", "{wide}", "--encoder", "{run}", "--store", "{new}", "--latency-us", "nan"], "target.latency_us"),
        (["build", "{wide}", "--encoder", "{run}", "--store", "{new}", "--index", "Flut"], "index Flut"),
        (["build", "{wide}", "--encoder", "{run}", "--store", "{new}", "--index", "IVF64,Flat"], "enough vectors"),
        (["promote", "9", "--store", "{store}"], "[1]"),
        (["rollback", "--store", "{store}"], "champion that replaced"),
        (["evaluate", "9", "--store", "{store}"], "[1]"),
        (["evaluate", "1", "--store", "{store}", "--queries", "{narrow}"], "narrow.npy"),
        (["embed", "digits", "--store", "{new}", "--out", "{new}.npy"], "lookalike promote"),
        (["embed", "digits", "--store", "{store}", "--out", "{new}/deeper/E.npy"], "a folder that exists"),
        (["search", "--store", "{store}"], "found none"),
        (["search", "digits", "--store", "{store}", "--id", "0"], "found DATA, --id"),
        (["search", "--store", "{store}", "--id", "none such"], "none such"),
        (["search", "--store", "{store}", "--id", "0", "--limit", "0"], "from 1 to 1024"),
        (["search", "--store", "{store}", "--id", "0", "--limit", "1000000000"], "from 1 to 1024"),
        (["search", "--store", "{store}", "--id", "0", "--filter", "label=3"], "--filter: expected JSON"),
        (["search", "--store", "{store}", "--id", "0", "--filter", ""], "--filter: expected JSON"),
        (["search", "--store", "{store}", "--id", "0", "--filter", "[" * 9_999], "--filter: expected JSON"),
        (["search", "--store", "{store}", "--id", "0", "--filter", "{{}}"], "filter: expected field with one of"),
        (["search", "--store", "{store}", "--id", "0", "--filter", '{{"field": "x", "equal": 1}}'], "filter.field"),
        (["search", "--store", "{store}", "--id", "0", "--filter", '{{"field": "label", "in": []}}'], "filter.in"),
        (["search", "--store", "{store}", "--id", "0", "--filter", f'{{{{"field": "x", "equal": {2**63}}}}}'], "2^63"),
        (["search", "--store", "{store}", "--id", "0", "--filter", '{{"field": "x", "equal": 1e400}}'], "finite"),
        (["serve", "--store", "{new}"], "lookalike promote"),
        (["serve", "--store", "{store}", "--host", "0.0.0.0"], "LOOKALIKE_API_KEY"),
        (["serve", "--store", "{store}", "--port", "65536"], "port"),
        (["serve", "--store", "{store}", "--keys", "{new}"], "lookalike keys add"),
        (["serve", "--store", "{store}", "--tls-cert", "{text}"], "tls_key: expected a file, because tls_cert is set"),
        (["serve", "--store", "{store}", "--tls-key", "{text}"], "tls_cert: expected a file, because tls_key is set"),
        (
            ["serve", "--store", "{store}", "--tls-cert", "{text}", "--tls-key", "{text}"],
            "rows.txt without a certificate",
        ),
    ],
)
def test_a_user_error_prints_one_line_and_exits_with_2(
    arguments: list[str], about: str, tiny_store: Store, tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.txt").write_text("1 2 3")
    places = {
        "store": tiny_store.folder,
        "run": tiny_run,
        "new": tmp_path / "new",
        "narrow": save(tmp_path / "narrow.npy", blobs(20, 3)),
        "wide": save(tmp_path / "wide.npy", blobs(30, 64)),
        "text": tmp_path / "rows.txt",
    }
    refused(run(*(argument.format(**places) for argument in arguments)), about)
    assert not (tmp_path / "new" / "champion").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["train"],
        ["train", "digits"],
        ["promote", "one", "--store", "s"],
        ["build", "digits", "--encoder", "r", "--store", "s", "--metric", "euclid"],
        ["search", "--store", "s", "--limit", "1.5"],
        ["versions", "--store", "s", "--none-such"],
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Usage" in done.err


@pytest.mark.parametrize(
    "name", ["index.faiss", "embeddings.npy", "items.arrow", "manifest.json", "encoder/weights.safetensors"]
)
@pytest.mark.parametrize("command", [["serve"], ["search", "--id", "0"]])
def test_refuses_a_damaged_champion_and_names_the_file(store_copy: Store, command: list[str], name: str) -> None:
    path = store_copy.path(1) / name
    path.write_bytes(path.read_bytes()[:-1])
    refused(run(*command, "--store", store_copy.folder), str(path))


def test_promote_refuses_a_damaged_version(store_copy: Store, tiny_run: Path) -> None:
    assert run("build", "digits:test", "--encoder", tiny_run, "--store", store_copy.folder).out == "2\n"
    shutil.rmtree(store_copy.path(2) / "encoder")
    refused(run("promote", 2, "--store", store_copy.folder), "encoder")
    champion = store_copy.champion()
    assert champion is not None
    assert champion.version == 1
