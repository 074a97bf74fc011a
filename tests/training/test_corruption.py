from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from training.config import CorruptionConfig
from training.corruption import CORRUPTIONS, Corruption, build_corruption
from training.errors import ConfigError
from training.preprocess import Preprocessor, ScaleKind, fit_preprocessor

ROWS = np.random.default_rng(0).uniform([0, -5, 100], [1, 5, 100], (40, 3)).astype(np.float32)
KINDS = sorted(CORRUPTIONS)


def built(kind: str, level: float, scaling: Preprocessor) -> Corruption:
    corruption = build_corruption(CorruptionConfig(kind=cast(Any, kind), level=level), scaling)
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
def test_corrupted_rows_stay_in_bounds_and_the_clean_ones_are_left_alone(
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
def test_at_level_0_rows_are_seen_as_they_are(kind: str, scale: ScaleKind) -> None:
    scaling = fit_preprocessor(ROWS, scale)
    clean = scaling.apply(torch.from_numpy(ROWS))
    assert torch.equal(built(kind, 0.0, scaling)(clean, seeded()), clean)


@pytest.mark.parametrize("kind", KINDS)
def test_the_draw_follows_the_generator_alone(kind: str) -> None:
    clean, scaling = wide()
    corrupt = built(kind, 0.5, scaling)
    assert torch.equal(corrupt(clean, seeded(1)), corrupt(clean, seeded(1)))
    assert not torch.equal(corrupt(clean, seeded(1)), corrupt(clean, seeded(2)))


def test_gaussian_draws_a_level_per_row_between_0_and_the_given_one() -> None:
    clean, scaling = wide(count=2_000)
    levels = built("gaussian", 2.0, scaling)(clean, seeded()).std(dim=1)
    # Uniform over [0, 2): quartiles at 0.5, 1 and 1.5; a row's own estimate is good to some 2 %.
    quartiles = torch.quantile(levels, torch.tensor([0.25, 0.5, 0.75]))
    np.testing.assert_allclose(quartiles, [0.5, 1.0, 1.5], atol=0.1)
    assert levels.max() < 2.2


def test_gaussian_noise_is_measured_in_the_columns_own_range() -> None:
    edge = torch.tensor([1.0, 50.0])
    scaling = Preprocessor("none", 0 * edge, edge / edge, -edge, edge)
    noise = built("gaussian", 0.01, scaling)(torch.zeros(4_000, 2), seeded())
    ratio = float(noise[:, 1].std() / noise[:, 0].std())
    assert ratio == pytest.approx(50, rel=0.1)


def test_masking_sets_the_given_share_to_the_columns_least_value() -> None:
    clean, scaling = wide()
    seen = built("masking", 0.3, scaling)(clean, seeded())
    assert set(seen.flatten().tolist()) == {-1_000.0, 0.0}
    assert float((seen == -1_000).float().mean()) == pytest.approx(0.3, abs=0.01)


def test_salt_and_pepper_sets_half_of_the_share_to_each_end() -> None:
    clean, scaling = wide()
    seen = built("salt_and_pepper", 0.3, scaling)(clean, seeded())
    for value, share in ((-1_000.0, 0.15), (1_000.0, 0.15), (0.0, 0.7)):
        assert float((seen == value).float().mean()) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("kind", ["masking", "salt_and_pepper"])
def test_a_share_above_1_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"corruption\.level"):
        built(kind, 1.5, wide()[1])


def test_every_configurable_corruption_is_there_and_none_is_none() -> None:
    kinds = get_args(CorruptionConfig.__annotations__["kind"])
    assert {"none", *CORRUPTIONS} == set(kinds)
    assert build_corruption(CorruptionConfig(kind="none"), wide()[1]) is None
