from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lookalike.index.versions.parallel import one_thread_each


@pytest.mark.parametrize("fails", [False, True])
def test_torch_uses_one_thread_each_until_the_end(fails: bool) -> None:
    before = torch.get_num_threads()
    try:
        with one_thread_each(torch.device("cpu")) as cores, ThreadPoolExecutor(1) as pool:
            assert cores == before
            assert torch.get_num_threads() == pool.submit(torch.get_num_threads).result() == 1
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert torch.get_num_threads() == before


def test_a_gpu_is_used_by_one_thread() -> None:
    with one_thread_each(torch.device("cuda")) as cores:
        assert cores == 1
