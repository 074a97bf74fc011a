"""Whole retrainings of a tiny store of digits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from lookalike.index.ann.target import Target
from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import open_collection
from lookalike.index.changes.compact import compact
from lookalike.index.errors import JobError, StoreError
from lookalike.index.evaluation.gate import judge
from lookalike.index.versions.alignment import mapped
from lookalike.index.versions.build import build
from lookalike.index.versions.consistency_check import check_consistency
from lookalike.index.versions.store import Store
from lookalike.retraining import run as retraining
from lookalike.retraining.job import Job, begin, job_of, read_job
from lookalike.retraining.plan import RetrainOptions
from lookalike.retraining.report import Report
from lookalike.retraining.run import retrain
from lookalike.training.artifact.encoder import load_encoder
from lookalike.training.config import load_config
from lookalike.training.errors import ConfigError, DataError, TrainingError
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows, read_sample, sketches
from tests.factories import log_changes
from tests.mixed import mixed, write_csv

GOOD = """
[model]
hidden = [64]
latent_dim = 8
[fit]
epochs = 25
device = "cpu"
"""
BAD = GOOD.replace("latent_dim = 8", "latent_dim = 2").replace("epochs = 25", "epochs = 1")
TEST, LABELS = read_sample(open_rows("digits:test"), 360, seed=0)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    (tmp_path / "good.toml").write_text(GOOD)
    return tmp_path / "good.toml"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    (tmp_path / "bad.toml").write_text(BAD)
    return tmp_path / "bad.toml"


def as_json(section: object) -> bytes:
    return TypeAdapter(type(section)).dump_json(section)


def new_items(first: int, last: int) -> list[Change]:
    """New items, from rows of the test part."""
    return [Change(f"new-{i}", TEST[i], json.dumps({"label": LABELS[i]})) for i in range(first, last)]


def report_of(store: Store) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((store.folder / "retraining" / "report.json").read_text())
    return report


def asked(store: Store, config: Path | None = None, **more: Any) -> RetrainOptions:
    return RetrainOptions(store, config, device="cpu", **more)


def cut(*arguments: Any, **more: Any) -> Any:
    """Replaces a step: the process is interrupted here."""
    raise KeyboardInterrupt


def test_a_better_encoder_is_promoted(store_copy: Store, good: Path) -> None:
    first = store_copy.open(1)
    ids = [first.items.id_at(i) for i in range(3)]
    last = log_changes(
        store_copy.folder, *new_items(0, 200), Change(ids[0]), Change(ids[1], TEST[300], '{"label": 3, "new": true}')
    )
    said: list[str] = []
    report = retrain(asked(store_copy, good), said.append)
    verdict = report.gate
    assert (report.outcome, report.version, report.champion) == ("promoted", 2, 1)
    assert verdict is not None
    assert verdict.passes
    version = store_copy.open_champion()
    header = version.manifest
    assert (version.number, header.parent, header.sequence, header.trained_to) == (2, 1, last, last)
    retraining = header.retraining
    assert retraining is not None
    assert (header.items, retraining.forced, header.compacted) == (1_437 + 200 - 1, False, False)
    assert header.data == first.manifest.data
    assert retraining.gate == verdict
    counts = retraining.rows.model_dump(include={"rows", "new", "replaced", "deleted", "unreadable"})
    assert counts == {"rows": 1_636, "new": 200, "replaced": 1, "deleted": 1, "unreadable": 0}
    assert retraining.rows.settings == "those of good.toml"
    assert "rows: 1,636 of digits and the changes up to 202: 200 new, 1 replaced, 1 deleted" in said

    assert version.items.find(ids[0]) is None
    np.testing.assert_allclose(
        version.embeddings.at(version.items.positions([ids[1], "new-7"])), version.embed(TEST[[300, 7]]), atol=1e-5
    )
    assert version.items.payload_at(version.items.position(ids[1])) == {"label": 3, "new": True}
    assert version.inputs is not None
    assert np.array_equal(version.inputs.at(version.items.positions([ids[1], "new-7"])), TEST[[300, 7]])
    collection = open_collection(store_copy, 2)
    assert (collection.applied, collection.is_changed) == (last, False)

    told = report_of(store_copy)
    assert (told["outcome"], told["version"], told["gate"]) == ("promoted", 2, json.loads(as_json(retraining.gate)))
    assert told["alignment"] == json.loads(as_json(retraining.alignment))
    assert not (store_copy.folder / "retraining" / "job.json").exists()
    assert report.lines()[-1].startswith("promoted: version 2 replaces version 1: no worse by any measure; by ")


def test_both_encoders_are_compared_on_rows_that_neither_was_trained_on(
    store_copy: Store, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_changes(store_copy.folder, *new_items(0, 300))
    judged: dict[str, Any] = {}

    def seen(challenger: Any, champion: Any, **rows: Any) -> Any:
        judged.update(rows, challenger=challenger, champion=champion)
        return judge(challenger, champion, **rows)

    monkeypatch.setattr(retraining, "judge", seen)
    retrain(asked(store_copy, good))
    champion = set(judged["champion"].held_out.tolist())
    trained = set(sketches(read_sample(open_rows("digits"), 2_000, 0)[0]).tolist()) - champion
    held = set(sketches(judged["held"]).tolist())
    assert not held & trained
    assert champion <= held  # all rows that the champion held out still exist
    new = set(sketches(TEST[:300]).tolist())
    assert 10 < len(held & new) < 60  # a tenth of them
    assert held == set(judged["challenger"].held_out.tolist())
    assert len(judged["labels"]) == len(judged["held"])


@pytest.mark.parametrize("value", [3e38, -3e38, 1e9])
def test_one_huge_value_neither_blocks_retraining_nor_lets_a_worse_encoder_pass(
    store_copy: Store, good: Path, bad: Path, value: float
) -> None:
    evil = TEST[300].copy()
    evil[0] = value
    log_changes(
        store_copy.folder,
        *new_items(0, 200),
        Change("evil", evil, "{}"),
        Change("evil too", np.full_like(evil, value), "{}"),
    )
    report = retrain(asked(store_copy, bad))
    verdict = report.gate
    assert (report.outcome, verdict is not None and verdict.passes) == ("kept", False)
    report = retrain(asked(store_copy, good))
    verdict = report.gate
    assert verdict is not None
    assert (report.outcome, verdict.passes) == ("promoted", True), verdict.lines()
    reconstruction = verdict.measures[-1]
    assert (reconstruction.name, reconstruction.challenger < 1) == ("reconstruction", True)
    told = report_of(store_copy)["data"]
    assert (told["outside"], told["outside_first"]) == (2, ["evil", "evil too"])
    version = store_copy.open_champion()
    assert version.items.find("evil") is not None  # it is an item nevertheless
    assert not np.isin(sketches(evil[None]), version.encoder.held_out).any()
    assert np.isin(sketches(TEST[:200]), version.encoder.held_out).any()


def test_a_worse_encoder_is_not_built(store_copy: Store, bad: Path) -> None:
    report = retrain(asked(store_copy, bad))
    verdict = report.gate
    assert verdict is not None
    assert (report.outcome, report.version, verdict.passes) == ("kept", None, False)
    assert store_copy.numbers() == [1]
    told = report_of(store_copy)
    assert (told["outcome"], told["reason"], told["gate"]["passes"]) == ("kept", verdict.reason, False)
    assert (store_copy.folder / "retraining" / "run" / "encoder").is_dir()
    assert not (store_copy.folder / "retraining" / "job.json").exists()


def test_force_promotes_a_refused_version_and_its_manifest_says_so(store_copy: Store, bad: Path) -> None:
    report = retrain(asked(store_copy, bad, force=True))
    verdict = report.gate
    assert verdict is not None
    assert (report.outcome, report.forced, verdict.passes) == ("promoted", True, False)
    header = store_copy.open_champion().manifest
    assert header.retraining is not None
    assert (header.version, header.retraining.forced, header.retraining.gate) == (2, True, verdict)
    assert report.lines()[-1].startswith("promoted: version 2 replaces version 1, forced: by ")
    assert store_copy.rollback().version == 1


def test_mapped_embeddings_find_their_rows_in_the_new_version(store_copy: Store, good: Path) -> None:
    report = retrain(asked(store_copy, good))
    assert report.alignment is not None
    old, new = store_copy.open(1), store_copy.open(2)
    rows = TEST[:100]
    moved = mapped(old.embed(rows), new.maps[1], new.metric)
    found, wanted = (new.searcher.search(queries, 10).positions for queries in (moved, new.embed(rows)))
    recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, wanted, strict=True)])
    assert abs(float(recall) - report.alignment.recall) < 0.1
    assert recall > 0.2  # by chance 0.007
    assert 0 < report.alignment.churn < 1
    assert (report.alignment.older, report.alignment.queries) == (1, 144)


def test_the_champions_settings_are_the_default(store_copy: Store, good: Path) -> None:
    log_changes(store_copy.folder, *new_items(0, 100))
    retrain(asked(store_copy, good))
    last = log_changes(store_copy.folder, *new_items(100, 200), Change("new-0"))
    report = retrain(asked(store_copy, force=True))
    verdict = report.gate
    assert report.data is not None
    assert verdict is not None
    assert (report.outcome, report.version, report.champion) == ("promoted", 3, 2)
    assert (report.data.settings, report.data.sequence, report.data.new) == ("the champion's", last, 199)
    second, third = store_copy.open(2), store_copy.open(3)
    assert third.encoder.header["config"] == second.encoder.header["config"]
    assert third.manifest.data == store_copy.manifest(1).data
    assert sorted(third.maps) == [1, 2]
    assert third.items.find("new-0") is None
    seen = set(sketches(np.concatenate([read_sample(open_rows("digits"), 2_000, 0)[0], TEST[:100]])).tolist())
    held = set(third.encoder.held_out.tolist())
    assert held & seen <= set(second.encoder.held_out.tolist())


def test_items_that_are_put_during_the_training_are_kept(
    store_copy: Store, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = log_changes(store_copy.folder, *new_items(0, 50))
    gone = store_copy.open(1).items.id_at(9)

    def meanwhile(*arguments: Any, **more: Any) -> Any:
        log_changes(
            store_copy.folder, *new_items(50, 60), Change("new-3"), Change(gone), Change("new-4", TEST[340], "{}")
        )
        return train(*arguments, **more)

    monkeypatch.setattr(retraining, "train", meanwhile)
    assert retrain(asked(store_copy, good)).outcome == "promoted"
    assert store_copy.manifest(2).sequence == before
    now = open_collection(store_copy, 2)
    assert now.applied == before + 13
    assert [now.items.find(name) is None for name in ("new-2", "new-55", "new-3", gone)] == [False, False, True, True]
    place = now.items.positions(["new-4"])
    np.testing.assert_allclose(now.vectors_at(place), now.version.embed(TEST[340:341]), atol=1e-5)


def test_another_promotion_during_the_training_stays(
    store_copy: Store, tiny_run: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*arguments: Any, **more: Any) -> Any:
        made = build(open_rows("digits"), tiny_run, store_copy, target=Target(key="Flat"), device="cpu")
        store_copy.promote(made)
        return train(*arguments, **more)

    monkeypatch.setattr(retraining, "train", meanwhile)
    report = retrain(asked(store_copy, good))
    assert (report.outcome, report.champion, report.version) == ("kept", 2, 3)
    assert report.reason == "version 2 was promoted in the meantime; version 3 exists and does not serve"
    assert store_copy.champion_number() == 2


def test_an_inconsistent_index_is_not_promoted(store_copy: Store, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = check_consistency(store_copy.open(1))
    monkeypatch.setattr(retraining, "check_consistency", lambda version: type(wrong)(9, 0.0, 0.1))
    report = retrain(asked(store_copy, good, force=True))
    assert (report.outcome, report.reason) == ("kept", "the index of version 2 is not consistent with its encoder")
    assert store_copy.champion_number() == 1


def test_if_drifted_retrains_only_after_drift(store_copy: Store) -> None:
    report = retrain(asked(store_copy, if_drifted=True))
    verdict = report.gate
    assert (report.outcome, report.reason, verdict) == ("kept", "the queries have not drifted", None)
    assert not (store_copy.folder / "retraining").exists()


def test_the_rows_may_have_moved_and_must_be_the_same(tmp_path: Path, good: Path) -> None:
    inputs, _ = read_sample(open_rows("digits"), 2_000, seed=0)
    np.save(tmp_path / "rows.npy", inputs)
    store = Store(tmp_path / "store")
    config = load_config(good)
    train(open_rows(str(tmp_path / "rows.npy")), config, tmp_path / "run")
    store.promote(build(open_rows(str(tmp_path / "rows.npy")), tmp_path / "run", store, device="cpu"))
    (tmp_path / "rows.npy").rename(tmp_path / "moved.npy")
    with pytest.raises(DataError, match=r"rows\.npy: expected the file or folder .* found no file .* with --data"):
        retrain(asked(store))
    told = report_of(store)
    assert (told["outcome"], told["champion"]) == ("failed", 1)
    assert "rows.npy: expected the file or folder that the rows came from" in told["reason"]
    assert read_job(store) is None
    changed = inputs.copy()
    changed[77, 3] += 1
    np.save(tmp_path / "rows.npy", changed)
    with pytest.raises(DataError, match=r"expected the rows that the version was built from.* found other rows"):
        retrain(asked(store))
    assert store.numbers() == [1]
    report = retrain(asked(store, data=str(tmp_path / "moved.npy")))
    assert (report.outcome, store.manifest(2).data) == ("promoted", store.manifest(1).data)


def test_a_table_keeps_the_columns_of_the_champion(tmp_path: Path) -> None:
    config = '[model]\nhidden = [16]\nlatent_dim = 3\n[fit]\nepochs = 4\ndevice = "cpu"\n'
    (tmp_path / "table.toml").write_text(config)
    table = write_csv(tmp_path / "table.csv", mixed(1_500))
    store = Store(tmp_path / "store")
    run = train(open_rows(str(table)), load_config(tmp_path / "table.toml"), tmp_path / "run")
    store.promote(build(open_rows(str(table)), run.folder, store, device="cpu"))
    row = read_sample(open_rows(str(table)), 5, seed=0)[0][0].copy()
    row[0] = np.nan
    log_changes(store.folder, Change("gappy", row, '{"label": 1}'))
    report = retrain(asked(store, force=True))
    assert report.outcome == "promoted"
    first, second = store.open(1), store.open(2)
    assert [c.name for c in second.encoder.columns] == [c.name for c in first.encoder.columns]
    assert [c.values for c in second.encoder.columns] == [c.values for c in first.encoder.columns]
    place = second.items.positions(["gappy"])
    np.testing.assert_allclose(second.embeddings.at(place), second.embed(row[None]), atol=1e-5)


def test_too_few_held_out_rows_are_reported_before_the_training(store_copy: Store, good: Path) -> None:
    listed = set(store_copy.open(1).encoder.held_out.tolist())
    inputs, ids = [], []
    for chunk in open_rows("digits").chunks():
        inputs.append(chunk.inputs)
        ids += chunk.ids
    known = [i for i, one in enumerate(sketches(np.concatenate(inputs)).tolist()) if one in listed]
    log_changes(store_copy.folder, *(Change(ids[i]) for i in known[50:]))
    report = retrain(asked(store_copy, good))
    verdict = report.gate
    assert (report.outcome, verdict) == ("kept", None)
    assert report.reason == "50 rows that the champion was not trained on are too few to judge: 100 are needed"
    assert not (store_copy.folder / "retraining" / "run").exists()
    assert report_of(store_copy)["reason"] == report.reason


def test_a_second_job_is_refused_and_keeps_the_report(store_copy: Store) -> None:
    with store_copy.job("compact"), pytest.raises(JobError, match=r"found compact, process \d+"):
        retrain(asked(store_copy))
    assert not (store_copy.folder / "retraining").exists()


def test_a_job_that_would_fail_again_is_not_continued(store_copy: Store, tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(GOOD + '[optimizer]\nkind = "sgd"\nlr = 1e20\n')
    with pytest.raises(TrainingError, match="learning-rate-too-high"):
        retrain(asked(store_copy, tmp_path / "f.toml"))
    assert read_job(store_copy) is None
    told = report_of(store_copy)
    assert (told["outcome"], told["champion"], "learning-rate-too-high" in told["reason"]) == ("failed", 1, True)


def test_a_job_that_a_full_disk_ended_is_continued(
    store_copy: Store, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **more: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(retraining, "build", full)
    with pytest.raises(OSError, match="No space"):
        retrain(asked(store_copy, good))
    job = read_job(store_copy)
    assert job is not None
    assert "No space" in report_of(store_copy)["reason"]
    monkeypatch.undo()
    said: list[str] = []
    log_changes(store_copy.folder, *new_items(0, 3))
    report = retrain(asked(store_copy, good), said.append)
    assert said[0] == "continuing the interrupted retraining of the changes up to 0"
    assert (report.outcome, job_of(store_copy, 2)) == ("promoted", job.token)


def test_continues_after_a_compaction_of_the_champion(
    store_copy: Store, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_changes(store_copy.folder, *new_items(0, 30))
    monkeypatch.setattr(retraining, "build", cut)
    with pytest.raises(KeyboardInterrupt):
        retrain(asked(store_copy, good))
    job = read_job(store_copy)
    monkeypatch.undo()
    log_changes(store_copy.folder, *new_items(30, 40))
    assert compact(store_copy) == 2
    report = retrain(asked(store_copy, good))
    assert job is not None
    header = store_copy.manifest(3)
    assert (report.outcome, report.champion, report.version) == ("promoted", 2, 3)
    assert (job_of(store_copy, header.version), header.sequence, header.parent) == (job.token, 30, 2)
    assert sorted(store_copy.open(3).maps) == [1, 2]
    assert open_collection(store_copy, 3).items.find("new-35") is not None


def test_a_promotion_before_a_crash_is_reported(store_copy: Store, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "write_report", cut)
    with pytest.raises(KeyboardInterrupt):
        retrain(asked(store_copy, good))
    assert store_copy.champion_number() == 2
    monkeypatch.undo()
    log_changes(store_copy.folder, *new_items(0, 3))
    assert compact(store_copy) == 3
    report = retrain(asked(store_copy, good))
    assert (report.outcome, report.version, report.champion) == ("promoted", 2, 1)
    assert (store_copy.champion_number(), read_job(store_copy)) == (3, None)


def test_a_version_that_was_built_is_only_promoted(
    store_copy: Store, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retraining, "check_consistency", cut)
    with pytest.raises(KeyboardInterrupt):
        retrain(asked(store_copy, good))
    assert (store_copy.numbers(), store_copy.champion_number()) == ([1, 2], 1)
    monkeypatch.undo()
    monkeypatch.setattr(retraining, "train", cut)
    report = retrain(asked(store_copy, good))
    verdict = report.gate
    assert verdict is not None
    assert (report.outcome, report.version, store_copy.numbers()) == ("promoted", 2, [1, 2])


def test_a_forced_version_that_was_built_is_not_promoted_without_force(
    store_copy: Store, bad: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retraining, "check_consistency", cut)
    with pytest.raises(KeyboardInterrupt):
        retrain(asked(store_copy, bad, force=True))
    monkeypatch.undo()
    report = retrain(asked(store_copy, bad))
    assert (report.outcome, report.version, store_copy.champion_number()) == ("kept", 2, 1)


def test_other_settings_begin_a_new_job(
    store_copy: Store, good: Path, bad: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retraining, "judge", cut)
    with pytest.raises(KeyboardInterrupt):
        retrain(asked(store_copy, bad))
    first = read_job(store_copy)
    monkeypatch.undo()
    last = log_changes(store_copy.folder, *new_items(0, 3))
    report = retrain(asked(store_copy, good))
    assert (report.outcome, store_copy.manifest(2).sequence) == ("promoted", last)
    assert first is not None
    assert job_of(store_copy, 2) != first.token
    assert load_encoder(store_copy.path(2) / "encoder").header["config"]["fit"]["epochs"] == 25


@pytest.mark.parametrize("content", ["", "{", "[]", '{"encoder": "1"}', '{"token": 3}', "[" * 100_000])
def test_ignores_an_unreadable_job(store_copy: Store, content: str) -> None:
    begin(store_copy, Job("digest", "digest", {}, 0))
    assert read_job(store_copy) is not None
    (store_copy.folder / "retraining" / "job.json").write_text(content)
    assert read_job(store_copy) is None


def test_begins_no_job_without_a_champion_or_with_wrong_settings(store_copy: Store, tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text("[model]\nlatent = 3\n")
    with pytest.raises(ConfigError, match=r"model\.latent"):
        retrain(asked(store_copy, tmp_path / "f.toml"))
    (store_copy.folder / "champion").unlink()
    with pytest.raises(StoreError, match="promoted version"):
        retrain(asked(store_copy))
    assert report_of(store_copy)["champion"] is None


def test_removes_older_versions_after_a_promotion(store_copy: Store, bad: Path) -> None:
    for _ in range(2):
        assert retrain(asked(store_copy, bad, force=True, keep=3)).removed == ()
    report = retrain(asked(store_copy, bad, force=True, keep=1))
    assert (report.removed, store_copy.numbers()) == ((1, 2), [3, 4])
    assert report_of(store_copy)["removed"] == [1, 2]
    assert "removed: versions 1, 2" in report.lines()


def test_a_failed_prune_keeps_the_promotion_and_its_report(store_copy: Store, bad: Path) -> None:
    retrain(asked(store_copy, bad, force=True))
    (store_copy.path(1) / "manifest.json").write_text("{}")
    log_changes(store_copy.folder, *new_items(0, 2))
    said: list[str] = []
    report = retrain(asked(store_copy, bad, force=True, keep=2), said.append)
    assert (report.outcome, report.version, report.removed, store_copy.champion_number()) == ("promoted", 3, (), 3)
    assert said[-1].startswith("promoted, but not pruned: ")
    assert (store_copy.folder / "retraining" / "job.json").exists() is False
    told = report_of(store_copy)
    assert (told["outcome"], told["version"], told["removed"]) == ("promoted", 3, [])


@pytest.mark.parametrize("anew", [False, True])
def test_a_lost_log_is_reported_before_the_training(store_copy: Store, good: Path, anew: bool) -> None:
    gone = store_copy.open(1).items.id_at(3)
    log_changes(store_copy.folder, Change("mine", TEST[0], "{}"), Change(gone))
    assert compact(store_copy) == 2
    for path in store_copy.folder.glob("items.db*"):
        path.unlink()
    if anew:
        assert log_changes(store_copy.folder, *new_items(0, 3)) == 5
    with pytest.raises(StoreError, match=r"from change 1 to 2,.* found .*Restore items"):
        retrain(asked(store_copy, good, force=True))
    assert (store_copy.numbers(), read_job(store_copy)) == ([1, 2], None)
    assert report_of(store_copy)["outcome"] == "failed"


def test_a_rolled_back_promotion_is_not_repeated(
    store_copy: Store, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retraining, "write_report", cut)
    with pytest.raises(KeyboardInterrupt):
        retrain(asked(store_copy, good))
    monkeypatch.undo()
    assert store_copy.champion_number() == 2
    assert store_copy.rollback().version == 1
    report = retrain(asked(store_copy, good))
    assert (report.outcome, report.version, report.champion, store_copy.champion_number()) == ("kept", 2, 1, 1)
    assert report.reason.startswith("the champion was changed after version 2 was promoted")
    assert read_job(store_copy) is None


def test_a_job_interrupted_just_before_its_promotion_is_promoted(
    store_copy: Store, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "promote", cut)
    with pytest.raises(KeyboardInterrupt):
        retrain(asked(store_copy, good))
    monkeypatch.undo()
    job = read_job(store_copy)
    assert job is not None
    assert (job.alias, store_copy.champion_number()) == (list(store_copy.alias_stamp()), 1)
    assert retrain(asked(store_copy, good)).outcome == "promoted"
    assert store_copy.champion_number() == 2


def test_a_failed_report_has_a_line() -> None:
    assert Report("failed", "why").lines() == ["failed: why"]
