import math
from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from lookalike.training.artifact.preprocess import Preprocessor, fit_preprocessor
from lookalike.training.choices import ScaleKind
from lookalike.training.config import CorruptionConfig
from lookalike.training.corruption import CORRUPTIONS, HIDDEN, Corruption, build_corruption, hide_columns
from lookalike.training.errors import ConfigError
from lookalike.training.tables.columns import BOOLEANS, Column

ROWS = np.random.default_rng(0).uniform([0, -5, 100], [1, 5, 100], (40, 3)).astype(np.float32)
KINDS = sorted(CORRUPTIONS)


def built(
    kind: str, level: float, scaling: Preprocessor, shape: tuple[int, ...] | None = None, *, series: bool = False
) -> Corruption:
    """For rows that are pictures one pixel high, unless `shape` is given."""
    config = CorruptionConfig(kind=cast(Any, kind), level=level)
    corruption = build_corruption(config, scaling, shape or (1, len(scaling.low)), series=series)
    assert corruption is not None
    return corruption


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def wide(columns: int = 1_000, count: int = 100) -> tuple[Tensor, Preprocessor]:
    """Zeros between bounds of -1000 and 1000, so that nothing is clipped."""
    edge = torch.full((columns,), 1_000.0)
    return torch.zeros(count, columns), Preprocessor("standard", 0 * edge, edge / edge, -edge, edge)


@given(
    kind=st.sampled_from(KINDS),
    scale=st.sampled_from(get_args(ScaleKind)),
    level=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_corrupted_rows_stay_in_bounds_and_clean_rows_do_not_change(
    kind: str, scale: ScaleKind, level: float, seed: int
) -> None:
    scaling = fit_preprocessor(ROWS, scale)
    clean = scaling.apply(torch.from_numpy(ROWS))
    before = clean.clone()
    seen = built(kind, level, scaling)(clean, seeded(seed))
    assert torch.equal(clean, before)
    assert seen.shape == clean.shape
    assert bool(((scaling.low <= seen) & (seen <= scaling.high)).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", get_args(ScaleKind))
def test_level_0_changes_nothing(kind: str, scale: ScaleKind) -> None:
    scaling = fit_preprocessor(ROWS, scale)
    clean = scaling.apply(torch.from_numpy(ROWS))
    assert torch.equal(built(kind, 0.0, scaling)(clean, seeded()), clean)


@pytest.mark.parametrize("kind", KINDS)
def test_the_draw_depends_only_on_the_generator(kind: str) -> None:
    clean, scaling = wide()
    clean = clean + torch.arange(100.0)[:, None]  # no two rows are the same
    corrupt = built(kind, 0.5, scaling)
    assert torch.equal(corrupt(clean, seeded(1)), corrupt(clean, seeded(1)))
    assert not torch.equal(corrupt(clean, seeded(1)), corrupt(clean, seeded(2)))


def test_gaussian_draws_a_level_per_row_between_0_and_the_configured_level() -> None:
    clean, scaling = wide(count=2_000)
    levels = built("gaussian", 2.0, scaling)(clean, seeded()).std(dim=1)
    # Uniform over [0, 2): quartiles at 0.5, 1 and 1.5; the estimate from one row is accurate to some 2 %.
    quartiles = torch.quantile(levels, torch.tensor([0.25, 0.5, 0.75]))
    np.testing.assert_allclose(quartiles, [0.5, 1.0, 1.5], atol=0.1)
    assert levels.max() < 2.2


def test_gaussian_noise_has_the_preprocessed_unit_for_any_column_range() -> None:
    # The deviation is drawn uniformly from [0, 0.1): the mean square is 0.1^2 / 3.
    edge = torch.tensor([1.0, 50.0])
    scaling = Preprocessor("none", 0 * edge, edge / edge, -edge, edge)
    noise = built("gaussian", 0.1, scaling)(torch.zeros(4_000, 2), seeded())
    assert noise.square().mean(dim=0).tolist() == pytest.approx([0.01 / 3] * 2, rel=0.1)


def test_masking_sets_the_configured_share_to_the_columns_least_value() -> None:
    clean, scaling = wide()
    seen = built("masking", 0.3, scaling)(clean, seeded())
    assert set(seen.flatten().tolist()) == {-1_000.0, 0.0}
    assert float((seen == -1_000).float().mean()) == pytest.approx(0.3, abs=0.01)


def test_salt_and_pepper_sets_half_of_the_share_to_each_end() -> None:
    clean, scaling = wide()
    seen = built("salt_and_pepper", 0.3, scaling)(clean, seeded())
    for value, share in ((-1_000.0, 0.15), (1_000.0, 0.15), (0.0, 0.7)):
        assert float((seen == value).float().mean()) == pytest.approx(share, abs=0.01)


def covered(shape: tuple[int, ...], level: float, count: int = 200) -> Tensor:
    """(count, height, width): 1 inside a block, where every value must be the least of its column, else 0."""
    low = -torch.arange(1.0, math.prod(shape) + 1)
    scaling = Preprocessor("none", 0 * low, low / low, low, -low)
    seen = built("blocks", level, scaling, shape)(torch.zeros(count, len(low)), seeded())
    hit = (seen != 0).reshape(count, shape[0], shape[1], -1)
    assert torch.equal(seen, torch.where(seen != 0, low, 0))
    assert bool((hit.all(dim=3) == hit.any(dim=3)).all())  # all channels of a pixel, or none
    return hit[..., 0].float()


@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3)),
    ),
    level=st.floats(0, 1),
)
def test_a_block_is_one_rectangle_of_the_configured_share_to_the_nearest_pixel(
    shape: tuple[int, ...], level: float
) -> None:
    hit = covered(shape, level, count=5)
    tall, wide = hit.any(dim=2).sum(dim=1), hit.any(dim=1).sum(dim=1)
    area = hit.sum(dim=(1, 2))
    assert torch.equal(area, (tall * wide).float())
    assert len(set(area.tolist())) == 1
    height, width = shape[:2]
    assert abs(float(area[0]) - level * height * width) <= max(height, width) / 2 + 1e-6
    for side in (hit.any(dim=2), hit.any(dim=1)):  # the covered places are contiguous: they begin once
        begins = side.int().diff(prepend=torch.zeros(5, 1, dtype=torch.int32), dim=1) == 1
        assert bool((begins.sum(dim=1) <= 1).all())


@pytest.mark.parametrize(
    ("shape", "level", "block"), [((8, 8), 0.25, (4, 4)), ((4, 16, 3), 0.25, (2, 8)), ((1, 10), 0.3, (1, 3))]
)
def test_a_block_has_the_proportions_of_the_picture(
    shape: tuple[int, ...], level: float, block: tuple[int, int]
) -> None:
    hit = covered(shape, level)
    assert set(hit.any(dim=2).sum(dim=1).tolist()) == {block[0]}
    assert set(hit.any(dim=1).sum(dim=1).tolist()) == {block[1]}


def test_a_block_is_equally_likely_at_every_place() -> None:
    # A block of 2 x 2 in 4 x 4 pixels has nine places. One of them covers a corner, and four cover an inner pixel.
    share = covered((4, 4), 0.25, count=9_000).mean(dim=0)
    side = torch.tensor([1.0, 2.0, 2.0, 1.0])
    torch.testing.assert_close(share, side[:, None] * side / 9, atol=0.03, rtol=0)


@given(length=st.integers(1, 40), channels=st.integers(1, 4), level=st.floats(0, 1))
def test_a_block_of_a_window_is_one_interval_over_all_channels(length: int, channels: int, level: float) -> None:
    low = -torch.arange(1.0, length * channels + 1)
    scaling = Preprocessor("none", 0 * low, low / low, low, -low)
    seen = built("blocks", level, scaling, (length, channels), series=True)(torch.zeros(5, len(low)), seeded())
    hit = (seen != 0).reshape(5, length, channels)
    assert torch.equal(seen, torch.where(seen != 0, low, 0))
    assert torch.equal(hit.all(dim=2), hit.any(dim=2))
    assert hit[..., 0].sum(dim=1).tolist() == [round(level * length)] * 5
    begins = hit[..., 0].int().diff(prepend=torch.zeros(5, 1, dtype=torch.int32), dim=1) == 1
    assert bool((begins.sum(dim=1) <= 1).all())


@pytest.mark.parametrize("shape", [(64,), (2, 2, 2, 2)])
def test_refuses_blocks_for_rows_that_are_not_pictures(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"corruption\.kind: expected pictures: .*, found rows of shape"):
        built("blocks", 0.3, wide(math.prod(shape))[1], shape)


def numbered(count: int, columns: int) -> tuple[Tensor, Preprocessor]:
    """Values that encode row and column: 1000 * column + row."""
    clean = 1_000 * torch.arange(float(columns)) + torch.arange(float(count))[:, None]
    return clean, fit_preprocessor(clean.numpy(), "none")


def test_a_swapped_value_is_another_rows_value_of_the_same_column() -> None:
    clean, scaling = numbered(100, 50)
    seen = built("swap", 0.3, scaling)(clean, seeded())
    assert torch.equal(seen // 1_000, clean // 1_000)  # columns stay
    changed = seen != clean
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.02)
    row = (seen % 1_000)[0]
    assert len(set(row[changed[0]].tolist())) > 5  # the values of a row come from different rows


def test_two_rows_swap_with_each_other() -> None:
    clean, scaling = numbered(2, 4)
    assert torch.equal(built("swap", 1.0, scaling)(clean, seeded()), clean.flip(0))


def test_every_other_row_is_an_equally_likely_source() -> None:
    clean, scaling = numbered(5, 8_000)
    rows = built("swap", 1.0, scaling)(clean, seeded()) % 1_000
    for number in range(5):
        counts = torch.bincount(rows[number].long(), minlength=5) / 8_000
        expected = [0.0 if other == number else 0.25 for other in range(5)]
        np.testing.assert_allclose(counts, expected, atol=0.03)


def test_a_single_row_is_not_swapped() -> None:
    clean, scaling = numbered(1, 3)
    assert torch.equal(built("swap", 1.0, scaling)(clean, seeded()), clean)


@pytest.mark.parametrize("kind", sorted(set(CORRUPTIONS) - {"gaussian"}))
def test_refuses_a_share_above_1(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"corruption\.level"):
        built(kind, 1.5, wide()[1])


def test_every_configurable_corruption_exists_and_none_means_no_corruption() -> None:
    kinds = get_args(CorruptionConfig.__annotations__["kind"])
    assert {"none", *CORRUPTIONS} == set(kinds)
    assert build_corruption(CorruptionConfig(kind="none"), wide()[1], (1_000,)) is None


COLUMNS = (Column("n"), Column("c", "categorical", ("x", "y", "z")), Column("m"), Column("s", "boolean", BOOLEANS))
NAN = float("nan")
#                 n  c    m  s
TABLE = np.array([[1, 0, NAN, 0], [3, 1, 4, 1], [5, NAN, 6, 1], [3, 2, 8, 0]] * 250, np.float32)
TABLE_KINDS = sorted(set(KINDS) - {"blocks"})


def corrupted_table(kind: str, level: float) -> tuple[Tensor, Tensor, Tensor, Preprocessor]:
    """Clean and corrupted features, (1000, 11): n m | n? m? | c: x y z missing | s: f t missing; corrupted raw rows."""
    scaling = fit_preprocessor(TABLE, "none", COLUMNS)
    clean = scaling.apply(torch.from_numpy(TABLE))
    seen = CORRUPTIONS[kind](clean, seeded(), level, scaling)
    return clean, seen, scaling.invert(seen), scaling


@pytest.mark.parametrize("kind", TABLE_KINDS)
@pytest.mark.parametrize("level", [0.3, 1.0])
def test_a_corrupted_category_sets_one_slot(kind: str, level: float) -> None:
    _, seen, _, _ = corrupted_table(kind, level)
    assert set(seen[:, 2:].flatten().tolist()) <= {0.0, 1.0}
    assert bool((seen[:, 4:8].sum(dim=1) == 1).all())
    assert bool((seen[:, 8:].sum(dim=1) == 1).all())


def test_gaussian_noise_changes_only_numbers() -> None:
    clean, seen, _, _ = corrupted_table("gaussian", 0.5)
    assert torch.equal(seen[:, 2:], clean[:, 2:])
    assert not bool((seen[:, 0] == clean[:, 0]).all())


def test_a_masked_value_of_a_table_becomes_missing() -> None:
    _, seen, raw, _ = corrupted_table("masking", 1.0)
    # n and m: the mean, and missing; c and s: the slot for missing values.
    assert seen[0].tolist() == [3, 6, 1, 1, 0, 0, 0, 1, 0, 0, 1]
    assert bool((seen == seen[0]).all())
    assert bool(raw.isnan().all())


def test_all_features_of_a_column_are_masked_together() -> None:
    clean, seen, _, _ = corrupted_table("masking", 0.3)
    hit = seen[:, 10] == 1
    assert float(hit.float().mean()) == pytest.approx(0.3, abs=0.06)
    assert bool((seen[hit, 8:10] == 0).all())
    masked = (seen[:, 3] == 1) & (clean[:, 3] == 0)
    assert bool((seen[masked, 1] == 6).all())
    assert float(masked[clean[:, 3] == 0].float().mean()) == pytest.approx(0.3, abs=0.06)


def test_salt_and_pepper_uses_the_previous_rows_category_and_no_missing_number() -> None:
    clean, seen, raw, _ = corrupted_table("salt_and_pepper", 1.0)
    assert set(raw[:, 0].tolist()) == {1.0, 5.0}
    assert set(raw[:, 2].tolist()) == {4.0, 8.0}
    assert torch.equal(seen[:, 4:], clean.roll(1, dims=0)[:, 4:])


def test_swapped_columns_are_whole_columns_of_other_rows() -> None:
    _, _, raw, _ = corrupted_table("swap", 0.5)
    for column in range(4):
        before, after = torch.from_numpy(TABLE[:, column]).nan_to_num(-1), raw[:, column].nan_to_num(-1)
        assert set(after.tolist()) == set(before.tolist())
        assert 0.2 < float((before != after).float().mean()) < 0.5


@pytest.mark.parametrize("kind", ["gaussian", "salt_and_pepper", "swap"])
def test_the_numbers_of_a_table_are_corrupted_like_an_array(kind: str) -> None:
    array, table = fit_preprocessor(ROWS, "standard"), fit_preprocessor(ROWS, "standard", tuple(map(Column, "abc")))
    clean = torch.from_numpy(ROWS)
    expected = CORRUPTIONS[kind](array.apply(clean), seeded(), 0.5, array)
    assert torch.equal(CORRUPTIONS[kind](table.apply(clean), seeded(), 0.5, table)[:, :3], expected)


def test_a_share_of_each_share_of_the_fields_is_hidden() -> None:
    _, _, _, scaling = corrupted_table("swap", 0.0)
    clean = scaling.apply(torch.from_numpy(np.tile(np.array([[1, 0, 4, 0]], np.float32), (40_000, 1))))
    seen = hide_columns(clean, seeded(), scaling)
    gone = torch.stack([seen[:, place] == 1 for place in (2, 3, 7, 10)], dim=1)  # (n, 4)
    # In a share HIDDEN of the rows, half of the fields on average; there, each count from 0 to 4 is equally likely.
    assert float(gone.float().mean()) == pytest.approx(HIDDEN / 2, abs=0.01)
    counts = torch.bincount(gone.sum(dim=1), minlength=5) / len(gone)
    assert counts.tolist() == pytest.approx([1 - HIDDEN * 4 / 5, *[HIDDEN / 5] * 4], abs=0.01)
    hidden = gone.all(dim=1)
    assert torch.equal(seen[hidden], scaling.masked.expand(int(hidden.sum()), -1))
    assert torch.equal(seen[~gone.any(dim=1)], clean[~gone.any(dim=1)])


def test_the_columns_of_a_field_are_hidden_together() -> None:
    parts = tuple(Column(f"when.{part}", "numeric", (), "when", part) for part in ("age", "hour_sin"))
    scaling = fit_preprocessor(ROWS, "standard", (*parts, Column("n")))
    seen = hide_columns(scaling.apply(torch.from_numpy(ROWS)).repeat(500, 1), seeded(), scaling)
    assert torch.equal(seen[:, 3], seen[:, 4])
    assert not torch.equal(seen[:, 3], seen[:, 5])
    assert 0 < float(seen[:, 3].mean()) < 1


def test_the_standard_autoencoder_of_a_table_learns_to_read_a_part_of_a_row() -> None:
    scaling = fit_preprocessor(TABLE, "none", COLUMNS)
    clean = scaling.apply(torch.from_numpy(TABLE))
    corrupt = build_corruption(CorruptionConfig(kind="none"), scaling, (4,))
    assert corrupt is not None
    assert torch.equal(corrupt(clean, seeded()), hide_columns(clean, seeded(), scaling))


def test_an_automatic_level_depends_on_the_kind() -> None:
    clean, scaling = wide()
    masked = build_corruption(CorruptionConfig(kind="masking"), scaling, (len(scaling.low),))
    by_hand = build_corruption(CorruptionConfig(kind="masking", level=0.3), scaling, (len(scaling.low),))
    assert masked is not None
    assert by_hand is not None
    assert torch.equal(masked(clean, seeded()), by_hand(clean, seeded()))
