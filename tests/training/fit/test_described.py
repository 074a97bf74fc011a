from typing import Any

import pytest
import torch

from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.config import load_config
from lookalike.training.errors import ConfigError
from lookalike.training.fit.described import Described, described
from tests.factories import cloud


def chosen(*lines: str, shape: tuple[int, ...] = (8, 8), pixels: bool = True) -> Described:
    width = int(torch.tensor(shape).prod())
    rows = cloud(60, width)
    preprocess = fit_preprocessor(rows, "center")
    applied = preprocess.apply(torch.from_numpy(rows))
    return described(load_config(None, list(lines)), preprocess, applied, shape, pixels=pixels)


def test_auto_describes_pictures_and_rebuilds_what_it_describes() -> None:
    found = chosen()
    assert found.layer is not None
    assert found.target is not None
    assert (found.layer.descriptor.shape, found.layer.descriptor.cell) == ((8, 8, 1), 2)


@pytest.mark.parametrize(
    ("lines", "more"),
    [
        ((), {"shape": (64,)}),
        ((), {"pixels": False}),
        ((), {"shape": (7, 9)}),
        (("model.kind=conv",), {}),
        (("features.kind=none",), {}),
    ],
)
def test_auto_describes_no_other_rows(lines: tuple[str, ...], more: dict[str, Any]) -> None:
    assert chosen(*lines, **more) == Described()


def test_the_settings_choose_the_cell_and_the_target() -> None:
    found = chosen("features.kind=gradients", "features.cell=4", "loss.target=rows")
    assert found.layer is not None
    assert found.layer.descriptor.cell == 4
    assert found.target is None


@pytest.mark.parametrize(
    ("lines", "more", "message"),
    [
        (("features.kind=gradients",), {"shape": (64,)}, r"features.kind.*\(64\)"),
        (("features.kind=gradients",), {"pixels": False}, "features.kind"),
        (("features.kind=gradients", "model.kind=conv"), {}, "model.kind.*mlp.*conv"),
        (("features.kind=none", "loss.target=gradients"), {}, "loss.target.*rows"),
        (("features.cell=9",), {}, "features.cell.*at most 8.*9"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(
    lines: tuple[str, ...], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        chosen(*lines, **more)
