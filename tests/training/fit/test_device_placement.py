import pytest
import torch

from lookalike.training.fit.device_placement import fits, place_on_device


@pytest.mark.parametrize(
    ("needed", "free", "fitting"), [(50, 100, True), (51, 100, False), (0, 0, True), (1, 1, False)]
)
def test_half_of_what_is_free_is_left(needed: int, free: int, fitting: bool) -> None:
    assert fits(needed, free) is fitting


def test_on_the_cpu_rows_stay_where_they_are() -> None:
    parts = [torch.ones(2, 3), torch.zeros(1, 3)]
    placed = place_on_device(parts, torch.device("cpu"))
    assert all(one is other for one, other in zip(placed, parts, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("fitting", [True, False])
def test_rows_go_to_the_gpu_where_they_fit_and_to_pinned_memory_where_not(
    fitting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.training.fit.device_placement.fits", lambda needed, free: fitting)
    for part in place_on_device([torch.ones(2, 3), torch.zeros(1, 3)], torch.device("cuda")):
        assert part.is_cuda is fitting
        assert part.is_pinned() is not fitting
