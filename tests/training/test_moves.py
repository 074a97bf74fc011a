from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from torch import Generator

from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.config import CorruptionConfig
from lookalike.training.errors import ConfigError
from lookalike.training.moves import Moves, background_of, moves_for

SIDE = 12


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def moves(**amounts: Any) -> Moves:
    usual: dict[str, Any] = {"shift": 0.0, "zoom": 0.0, "rotation": 0.0, "flip": 0.0, "background": 0.0}
    usual |= {"shape": (SIDE, SIDE, 1), "base": torch.zeros(SIDE * SIDE)}
    return Moves(**(usual | amounts))


def blob() -> torch.Tensor:
    """A smooth bright spot, right of and above the middle."""
    y, x = torch.meshgrid(torch.arange(SIDE) - 4.0, torch.arange(SIDE) - 7.0, indexing="ij")
    return torch.exp(-(x**2 + y**2) / 4).reshape(1, -1)


def center(row: torch.Tensor) -> tuple[float, float]:
    """The center of mass: down, right."""
    picture = row.reshape(SIDE, SIDE).double()
    places = torch.arange(SIDE, dtype=torch.float64)
    total = picture.sum()
    return float((picture.sum(dim=1) * places).sum() / total), float((picture.sum(dim=0) * places).sum() / total)


def test_without_an_amount_nothing_moves() -> None:
    rows = torch.randn(5, SIDE * SIDE, generator=seeded())
    torch.testing.assert_close(moves()(rows, seeded()), rows, atol=1e-5, rtol=0)


def test_pictures_are_shifted_both_ways_by_at_most_the_shift() -> None:
    moved = moves(shift=2.0)(blob().repeat(400, 1), seeded())
    gaps = np.array([center(row) for row in moved]) - center(blob()[0])
    assert np.abs(gaps).max() < 2.1
    assert (gaps.min(axis=0) < -1.8).all()
    assert (gaps.max(axis=0) > 1.8).all()
    assert float(np.abs(np.corrcoef(gaps.T))[0, 1]) < 0.15  # down and right are drawn independently


def test_every_picture_is_mirrored_if_the_share_is_1() -> None:
    mirrored = moves(flip=1.0)(blob(), seeded()).reshape(SIDE, SIDE)
    torch.testing.assert_close(mirrored, blob().reshape(SIDE, SIDE).flip(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("amount", "value"), [("rotation", 90.0), ("zoom", 0.5)])
def test_pictures_turn_and_grow_about_their_middle(amount: str, value: float) -> None:
    middle = (SIDE - 1) / 2
    before = np.array(center(blob()[0])) - middle
    after = np.array([center(row) for row in moves(**{amount: value})(blob().repeat(300, 1), seeded())]) - middle
    lengths = np.linalg.norm(after, axis=1) / np.linalg.norm(before)
    angles = np.degrees(np.arctan2(after[:, 0], after[:, 1]) - np.arctan2(before[0], before[1]))
    if amount == "rotation":
        np.testing.assert_allclose(lengths, 1, atol=0.05)
        assert angles.min() < -80
        assert angles.max() > 80
    else:
        np.testing.assert_allclose(angles, 0, atol=3)
        assert lengths.min() < 0.6
        assert lengths.max() > 1.35


def test_a_rotation_is_that_of_scipy_also_if_the_sides_differ() -> None:
    shape, count = (9, 15), 40
    picture = torch.zeros(shape)
    picture[2:7, 4:11] = torch.rand((5, 7), generator=seeded())
    turned = moves(rotation=30.0, shape=(*shape, 1), base=torch.zeros(135))(
        picture.reshape(1, -1).repeat(count, 1), seeded(3)
    )
    draws = torch.rand((5, count), generator=seeded(3))[0]
    for row, draw in zip(turned.numpy(), draws.tolist(), strict=True):
        angle = np.radians((2 * draw - 1) * 30)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        middle = (np.array(shape) - 1) / 2
        wanted = affine_transform(picture.numpy(), turn, middle - turn @ middle, order=1)
        np.testing.assert_allclose(row.reshape(shape), wanted, atol=1e-4)


def test_a_background_comes_in_from_outside_or_the_edge_is_repeated() -> None:
    white = torch.full((50, SIDE * SIDE), 3.0)
    assert float(moves(shift=3.0, background=None)(white, seeded()).min()) == pytest.approx(3.0)
    assert float(moves(shift=3.0, background=3.0)(white, seeded()).min()) == pytest.approx(3.0)
    assert float(moves(shift=3.0, background=0.0)(white, seeded()).min()) == pytest.approx(0.0, abs=1e-5)


def test_a_centered_picture_moves_as_if_it_were_not_centered() -> None:
    mean = torch.rand(SIDE * SIDE, generator=seeded(1))
    plain = moves(shift=2.0)(blob(), seeded())
    centered = moves(shift=2.0, base=mean)(blob() - mean, seeded()) + mean
    torch.testing.assert_close(centered, plain, atol=1e-5, rtol=0)


ROWS = np.random.default_rng(0).uniform(0, 255, (50, 64)).astype(np.float32)
SCALING = fit_preprocessor(ROWS, "center")


def chosen(shape: tuple[int, ...] = (8, 8), *, pixels: bool = True, **settings: Any) -> Moves | None:
    return moves_for(CorruptionConfig(**settings), SCALING, shape, torch.zeros(64), pixels=pixels)


def test_auto_moves_pictures_only_and_only_if_rows_are_corrupted() -> None:
    found = chosen()
    assert found is not None
    assert (found.shift, found.zoom, found.rotation, found.flip) == (1.0, 0.1, 10.0, 0.0)
    assert chosen((64,)) is None
    assert chosen(pixels=False) is None
    assert chosen(kind="none") is None
    assert chosen(shift=0, zoom=0, rotation=0) is None
    turned = chosen(kind="none", rotation=5)
    assert turned is not None
    assert (turned.shift, turned.rotation) == (0.0, 5.0)


def test_auto_shifts_by_a_sixteenth_of_the_longer_side() -> None:
    scaling = fit_preprocessor(np.random.default_rng(0).uniform(0, 1, (20, 48 * 32)).astype(np.float32), "center")
    found = moves_for(CorruptionConfig(), scaling, (32, 48), torch.zeros(48 * 32), pixels=True)
    assert found is not None
    assert found.shift == 3.0


@pytest.mark.parametrize("setting", [{"shift": 1.0}, {"zoom": 0.2}, {"rotation": 3.0}, {"flip": 0.5}])
def test_moves_of_rows_that_are_no_pictures_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"corruption.{next(iter(setting))}.*no pictures"):
        chosen((64,), **setting)


@pytest.mark.parametrize(("border", "fill"), [(0.0, "low"), (255.0, "high"), (128.0, None)])
def test_the_background_is_an_end_of_the_range_that_the_border_is_near_to(border: float, fill: str | None) -> None:
    rows = ROWS.reshape(-1, 8, 8).copy()
    rows[:, [0, -1]] = rows[:, :, [0, -1]] = border
    rows[0, 4, 4], rows[1, 4, 4] = 0, 255
    scaling = fit_preprocessor(rows.reshape(-1, 64), "center")
    base = scaling.offset * scaling.factor
    found = background_of(scaling, base.reshape(8, 8, 1))
    wanted = {"low": 0.0, "high": 255.0 * float(scaling.factor[0]), None: None}[fill]
    assert found == (None if wanted is None else pytest.approx(wanted, abs=1e-4))
