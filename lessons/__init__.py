"""The lessons: a page and a small experiment for each "why?"."""

__all__: list[str] = []
