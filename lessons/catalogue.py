"""The lessons by topic. An experiment is imported only when it runs, so that listing the topics is fast."""

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from lookalike.training.errors import ConfigError

if TYPE_CHECKING:  # listing the topics needs no numpy
    from lookalike.lessons.shown import Shown

__all__ = ["Lesson", "open_lesson", "topics"]

TOPICS = (
    "three-pillars",
    "loss-functions",
    "activations",
    "learning-rate",
    "backpropagation",
    "optimizers",
    "schedules",
    "regularization",
    "train-and-eval",
    "overfitting",
    "vanishing-gradients",
    "cut-gradients",
    "common-mistakes",
    "autoencoders",
    "denoising",
    "features",
    "latent-space",
    "similarity-search",
)
"""In reading order; a topic's page is `pages/TOPIC.md`, its experiment is the module of that name."""


@dataclass(frozen=True)
class Lesson:
    """A page, in Markdown, and the experiment that demonstrates it."""

    topic: str
    title: str
    page: str

    def show(self, seed: int = 0) -> "Shown":
        """Run the experiment: it takes seconds on one core and returns the same numbers each time."""
        experiment: Callable[[int], Shown] = importlib.import_module(
            f"lookalike.lessons.{_module(self.topic)}"
        ).experiment
        return experiment(seed)


def topics() -> dict[str, str]:
    """Return each topic with its title, in reading order."""
    return {topic: _title(_page(topic)) for topic in TOPICS}


def open_lesson(topic: str) -> Lesson:
    """Return the lesson on a topic; upper and lower case, spaces, underscores and dashes make no difference.

    Raises:
        ConfigError: the topic does not exist.
    """
    name = "-".join(topic.lower().replace("_", " ").replace("-", " ").split())
    if name not in TOPICS:
        near = difflib.get_close_matches(name, TOPICS, n=1)
        raise ConfigError(
            "topic",
            expected=f"one of: {', '.join(TOPICS)}",
            found=repr(topic),
            remedy=f"Did you mean {near[0]}?" if near else "",
        )
    page = _page(name)
    return Lesson(name, _title(page), page)


def _module(topic: str) -> str:
    return topic.replace("-", "_")


def _page(topic: str) -> str:
    return (files(__package__) / "pages" / f"{topic}.md").read_text(encoding="utf-8")


def _title(page: str) -> str:
    return page.partition("\n")[0].removeprefix("# ")
