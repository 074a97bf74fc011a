import torch

from lookalike.training.fit.epoch_batches import EpochBatches, seeded
from lookalike.training.history import Epoch, State, WithinEpoch
from lookalike.training.plan import Data, FitPlan
from lookalike.training.schedules import SCHEDULES

CPU = torch.device("cpu")
DATA = Data(torch.arange(10.0)[:, None], torch.zeros(2, 1))
PLAN = FitPlan(epochs=3, batch_size=4, patience=9, seed=5, schedule=SCHEDULES["constant"])


def order(state: State) -> list[int]:
    return torch.cat(list(EpochBatches(DATA, PLAN, state, CPU).all)).tolist()


def test_the_batches_of_an_epoch_have_each_row_once_and_depend_on_its_number() -> None:
    first, second = State(), State([Epoch(1, 0.5, None, 0.1, 0.0)])
    assert [len(batch) for batch in EpochBatches(DATA, PLAN, first, CPU).all] == [4, 3, 3]
    assert sorted(order(first)) == list(range(10))
    assert order(first) == order(first)
    assert order(first) != order(second)
    assert EpochBatches(DATA, PLAN, second, CPU).losses == [float("inf")]


def test_an_epoch_continues_with_the_same_batches_and_random_numbers() -> None:
    whole = EpochBatches(DATA, PLAN, State(), CPU)
    torch.rand(3, generator=whole.generator)  # as a corruption
    torch.rand(2)  # as dropout
    whole.step, whole.total = 2, torch.tensor(1.5)
    within = WithinEpoch(2, 0.0, {}, whole.tensors())
    expected = torch.rand(4, generator=whole.generator).tolist(), torch.rand(4).tolist()
    torch.manual_seed(99)
    resumed = EpochBatches(DATA, PLAN, State(within=within), CPU)
    assert (resumed.step, float(resumed.total)) == (2, 1.5)
    assert all(torch.equal(a, b) for a, b in zip(resumed.all, whole.all, strict=True))
    assert (torch.rand(4, generator=resumed.generator).tolist(), torch.rand(4).tolist()) == expected


def test_each_epoch_and_seed_has_other_random_numbers() -> None:
    drawn = {tuple(torch.rand(2, generator=seeded(seed, number, CPU)).tolist()) for seed in (0, 1) for number in (1, 2)}
    assert len(drawn) == 4
