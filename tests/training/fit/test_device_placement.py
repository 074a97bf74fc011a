import pytest
import torch

from lookalike.training.fit.device_placement import fits, place_on_device


@pytest.mark.parametrize(
    ("needed", "free", "fitting"), [(50, 100, True), (51, 100, False), (0, 0, True), (1, 1, False)]
)
def test_rows_fit_if_half_of_the_free_memory_remains(needed: int, free: int, fitting: bool) -> None:
    assert fits(needed, free) is fitting


def test_rows_are_not_copied_on_the_cpu() -> None:
    parts = [torch.ones(2, 3), torch.zeros(1, 3)]
    placed = place_on_device(parts, torch.device("cpu"))
    assert all(one is other for one, other in zip(placed, parts, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("fitting", [True, False])
def test_rows_go_to_the_gpu_if_they_fit_else_to_pinned_memory(fitting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.training.fit.device_placement.fits", lambda needed, free: fitting)
    for part in place_on_device([torch.ones(2, 3), torch.zeros(1, 3)], torch.device("cuda")):
        assert part.is_cuda is fitting
        assert part.is_pinned() is not fitting
