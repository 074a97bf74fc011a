import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.index.changes.change import Change
from lookalike.index.changes.holdout import choose_holdout
from lookalike.index.changes.training_snapshot import ChampionRows, TrainingSnapshot, take_snapshot
from lookalike.training.artifact.encoder import Encoder, load_encoder
from lookalike.training.artifact.preprocess import fit_preprocessor
from tests.factories import cloud, encoder_at, log_changes, made_rows, put

WIDTH = 4
BASE = cloud(200, WIDTH)
NEW = cloud(1_000, WIDTH, seed=1)
HELD = [5, 50, 150, 199]


def encoder(folder: Path, held: NDArray[np.float32]) -> Encoder:
    return load_encoder(encoder_at(folder / "encoder", np.eye(WIDTH, dtype=np.float32), held_out=held))


def snapshot(store: Path, upto: int, base: NDArray[np.float32] = BASE) -> TrainingSnapshot:
    rows = ChampionRows(made_rows(base), "base", len(base), hashlib.sha256(base.tobytes()).hexdigest())
    return take_snapshot(rows, store, upto, lambda puts: np.ones(len(puts), np.bool_), fit_preprocessor(base, "none"))


def held_rows(found: TrainingSnapshot, held: NDArray[np.int64]) -> NDArray[np.float32]:
    assert held.tolist() == sorted(set(held.tolist()))
    return np.concatenate([chunk.inputs for chunk in found.rows.chunks()])[held]


def test_unchanged_rows_hold_out_those_that_the_encoder_held_out(tmp_path: Path) -> None:
    found = snapshot(tmp_path, 0)
    held = choose_holdout(found, encoder(tmp_path, BASE[HELD]), tmp_path, trained_to=0, share=0.5, seed=0)
    assert held.tolist() == HELD


def test_holds_out_a_share_of_new_rows_and_the_old_held_out_rows(tmp_path: Path) -> None:
    log_changes(
        tmp_path, Change("row-5"), put("row-50", BASE[50] + 1), *(put(f"n{i}", row) for i, row in enumerate(NEW))
    )
    found = snapshot(tmp_path, 1_002)
    held = choose_holdout(found, encoder(tmp_path, BASE[HELD]), tmp_path, trained_to=0, share=0.3, seed=0)
    assert held[:2].tolist() == [150 - 2, 199 - 2]
    assert (held[2:] >= 198).all()
    assert 250 < len(held) - 2 < 350  # 0.3 of 1,001, within three standard deviations
    other = choose_holdout(found, encoder(tmp_path / "2", BASE[HELD]), tmp_path, trained_to=0, share=0.3, seed=1)
    assert held[2:].tolist() != other[2:].tolist()


def test_a_known_row_is_not_new_under_another_id_or_payload(tmp_path: Path) -> None:
    again = [put("row-0", BASE[0]), put("copy", BASE[1]), Change("row-2"), put("moved", BASE[2])]
    log_changes(tmp_path, *again, put("held", BASE[5]))
    found = snapshot(tmp_path, 5)
    held = choose_holdout(found, encoder(tmp_path, BASE[HELD]), tmp_path, trained_to=0, share=0.999999, seed=0)
    rows = held_rows(found, held)
    np.testing.assert_array_equal(rows, BASE[[*HELD, 5]])  # both rows that equal a held-out row


def test_rows_of_the_log_at_training_time_are_not_new(tmp_path: Path) -> None:
    log_changes(tmp_path, *(put(f"n{i}", row) for i, row in enumerate(NEW[:20])))
    log_changes(tmp_path, put("n3", NEW[30]), Change("n4"), put("n5", NEW[5]), put("late", NEW[4]), put("new", NEW[31]))
    found = snapshot(tmp_path, 25)
    its = encoder(tmp_path, np.concatenate([BASE[HELD], NEW[7:8]]))
    rows = held_rows(found, choose_holdout(found, its, tmp_path, trained_to=20, share=0.999999, seed=0))
    np.testing.assert_array_equal(rows, np.concatenate([BASE[HELD], NEW[[7, 30, 31]]]))


def test_to_an_encoder_of_other_data_every_row_is_new(tmp_path: Path) -> None:
    found = snapshot(tmp_path, 0)
    its = encoder(tmp_path, cloud(50, WIDTH, seed=9))
    held = choose_holdout(found, its, tmp_path, trained_to=0, share=0.25, seed=0)
    assert 30 < len(held) < 70


def test_equal_rows_are_held_out_together(tmp_path: Path) -> None:
    log_changes(tmp_path, *(put(f"n{i}", NEW[i % 10]) for i in range(200)))
    found = snapshot(tmp_path, 200)
    held = choose_holdout(found, encoder(tmp_path, BASE[HELD]), tmp_path, trained_to=0, share=0.5, seed=0)
    drawn = [{tuple(row) for row in held_rows(found, held)[4:]}, len(held) - 4]
    assert drawn[1] == 20 * len(drawn[0])  # type: ignore[arg-type]


def test_new_and_old_rows_are_held_out_in_equal_shares(tmp_path: Path) -> None:
    many = cloud(20_000, WIDTH, seed=3)
    log_changes(tmp_path, *(put(f"n{i}", row) for i, row in enumerate(cloud(2_000, WIDTH, seed=4))))
    found = snapshot(tmp_path, 2_000, many)
    its = encoder(tmp_path, many[np.linspace(0, 19_999, 8_192).astype(np.int64)])  # as many as an artifact can list
    held = choose_holdout(found, its, tmp_path, trained_to=0, share=0.9, seed=0)
    assert 8_192 + 700 < len(held) < 8_192 + 940  # 0.41 of 2,000


@pytest.mark.parametrize("listed", [0, 1])
def test_an_encoder_that_lists_none_or_whose_rows_are_gone_knows_none(tmp_path: Path, listed: int) -> None:
    log_changes(tmp_path, Change("row-5"))
    found = snapshot(tmp_path, 1)
    held = choose_holdout(found, encoder(tmp_path, BASE[5 : 5 + listed]), tmp_path, trained_to=0, share=0.5, seed=0)
    assert (len(held) > 50) == (listed == 0)


def windows(count: int, first: int = 0, each: int = 10) -> list[dict[str, object]]:
    """Payloads of `each` windows of `count` recordings; a window overlaps the next one."""
    places = range(0, 2 * each, 2)
    return [{"recording": f"r{first + n}", "start": at, "end": at + 4} for n in range(count) for at in places]


def recorded(store: Path, upto: int) -> TrainingSnapshot:
    """BASE as 20 recordings, combined with the log."""
    payloads = windows(20)
    made = replace(made_rows(BASE, payloads=payloads), group="recording")
    rows = ChampionRows(made, "base", len(BASE), hashlib.sha256(BASE.tobytes()).hexdigest())
    return take_snapshot(rows, store, upto, lambda puts: np.ones(len(puts), np.bool_), fit_preprocessor(BASE, "none"))


def test_new_windows_are_held_out_by_recording(tmp_path: Path) -> None:
    more = windows(40, first=20)
    more += [{"recording": "r0", "start": at, "end": at + 4} for at in range(20, 40, 2)]  # r0 continues; 20 overlaps
    log_changes(tmp_path, *(put(f"n{i}", NEW[i], payload) for i, payload in enumerate(more)))
    found = recorded(tmp_path, len(more))
    assert len(found.intervals) == 200 + len(more)
    its = encoder(tmp_path, BASE[30:40])  # recording r3
    chosen = set[int]()
    for seed in range(8):
        held = choose_holdout(found, its, tmp_path, trained_to=0, share=0.2, seed=seed)
        assert held[:10].tolist() == list(range(30, 40))
        new = set(held[10:].tolist())
        assert 60 <= len(new) <= 100  # 0.2 of 410
        assert 600 not in new  # it overlaps a window that the encoder was trained on
        whole = {place for place in new if place < 600}
        assert whole == {10 * (place // 10) + i for place in whole for i in range(10)}
        chosen |= {place // 10 for place in new}
    assert len(chosen) > 15


def test_no_held_out_window_equals_a_training_window(tmp_path: Path) -> None:
    silent = NEW[:400].copy()
    silent[::10] = 7  # the first window of each recording
    log_changes(tmp_path, *(put(f"n{i}", silent[i], payload) for i, payload in enumerate(windows(40, first=20))))
    found = recorded(tmp_path, 400)
    held = choose_holdout(found, encoder(tmp_path, BASE[30:40]), tmp_path, trained_to=0, share=0.2, seed=0)
    assert len(held) > 50
    assert not (held_rows(found, held) == 7).any()


def test_the_end_of_a_single_new_recording_is_held_out(tmp_path: Path) -> None:
    log_changes(tmp_path, *(put(f"n{i}", NEW[i], payload) for i, payload in enumerate(windows(1, 20, each=50))))
    held = choose_holdout(
        recorded(tmp_path, 50), encoder(tmp_path, BASE[30:40]), tmp_path, trained_to=0, share=0.1, seed=0
    )
    assert held[10:].tolist() == [245, 246, 247, 248, 249]
