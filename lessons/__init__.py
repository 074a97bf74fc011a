"""The lessons: a page and a small experiment for each topic."""

__all__: list[str] = []
