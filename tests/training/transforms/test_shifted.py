import numpy as np

from lookalike.training.transforms.shifted import shifted


def test_pictures_are_shifted_to_the_eight_sides_and_repeat_their_edge() -> None:
    pictures = np.random.default_rng(0).random((300, 5, 6, 3)).astype(np.float32)
    moved = shifted(pictures.reshape(300, -1), (5, 6, 3)).reshape(pictures.shape)
    sides = set()
    for before, after in zip(pictures, moved, strict=True):
        padded = np.pad(before, ((1, 1), (1, 1), (0, 0)), mode="edge")
        windows = {(y, x): padded[y : y + 5, x : x + 6] for y in range(3) for x in range(3)}
        (side,) = [side for side, window in windows.items() if np.array_equal(window, after)]
        sides.add(side)
    assert sides == {(y, x) for y in range(3) for x in range(3)} - {(1, 1)}
