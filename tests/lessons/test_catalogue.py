"""Every topic has a page of all parts and an experiment; the list is there without loading any of them."""

import math
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from lookalike.lessons.catalogue import open_lesson, topics
from lookalike.lessons.shown import Shown
from lookalike.training.config import TrainConfig, load_config
from lookalike.training.errors import ConfigError

TOPICS = list(topics())
SECTIONS = ["In plain words", "The formula", "The common mistake", "What to do", "The experiment"]

each_topic = pytest.mark.parametrize("topic", TOPICS)


def test_the_topics_are_those_that_were_asked_for() -> None:
    assert " ".join(TOPICS) == (
        "three-pillars loss-functions activations learning-rate backpropagation optimizers schedules regularization "
        "train-and-eval overfitting vanishing-gradients common-mistakes autoencoders denoising latent-space "
        "similarity-search"
    )
    assert len(set(topics().values())) == 16


@each_topic
def test_a_page_has_all_its_parts(topic: str) -> None:
    lesson = open_lesson(topic)
    assert lesson.page.startswith(f"# {lesson.title}\n")
    assert re.findall(r"^## (.*)$", lesson.page, re.MULTILINE) == SECTIONS
    for text in re.split(r"^#.*$", lesson.page, flags=re.MULTILINE)[2:]:
        assert len(text.split()) > 20


@each_topic
def test_a_page_is_short_and_fits_a_terminal(topic: str) -> None:
    lines = open_lesson(topic).page.splitlines()
    assert 40 <= len(lines) <= 90
    assert max(map(len, lines)) <= 110
    assert sum(line.startswith("```") for line in lines) in {2, 4}


@each_topic
def test_a_page_has_a_formula_with_shapes(topic: str) -> None:
    formula = open_lesson(topic).page.split("## The formula")[1].split("## ")[0]
    assert re.search(r"\((n|batch|width|weights|queries|hidden)\b[^)]*\)", formula)
    assert "=" in formula or "<-" in formula


def test_what_a_page_calls_the_default_is_the_default() -> None:
    told = [
        setting
        for topic in TOPICS
        for sentence in re.split(r"(?<=\.)\s|\n- |:\s", open_lesson(topic).page)
        if re.search(r"\bthe\s+default\b", sentence)
        for setting in re.findall(r"`--set ([^`]*)`", sentence)
    ]
    assert len(told) >= 6
    assert {setting for setting in told if load_config(None, [setting]) != TrainConfig()} == set()


@each_topic
def test_a_page_sends_only_to_lessons_that_are_there(topic: str) -> None:
    assert set(re.findall(r"`lookalike explain ([^`]*)`", open_lesson(topic).page)) <= set(TOPICS) - {topic}


@each_topic
def test_every_setting_on_a_page_is_one(topic: str) -> None:
    page = open_lesson(topic).page
    for line in re.findall(r"`--set ([^`]*)`", page):
        load_config(None, [line])
    for section, name in re.findall(r"`(data|model|loss|optimizer|corruption|fit)\.(\w+)`", page):
        with pytest.raises(ConfigError) as told:
            load_config(None, [f"{section}.{name}={{}}"])
        assert told.value.found != repr(name)  # known, and told that {} is no value for it


@each_topic
def test_a_lesson_shows_numbers_and_a_picture(topic: str, shown: Callable[[str], Shown]) -> None:
    told = shown(topic)
    assert len(told.numbers) >= 4
    assert all(math.isfinite(value) for value in told.numbers.values())
    assert told.picture.title


@pytest.mark.parametrize("name", ["Latent Space", "latent_space", " latent  space ", "LATENT-SPACE"])
def test_a_name_may_be_written_as_one_likes(name: str) -> None:
    assert open_lesson(name).topic == "latent-space"


def test_an_unknown_topic_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as told:
        open_lesson("overfiting")
    assert told.value.field == "topic"
    assert all(topic in told.value.expected for topic in TOPICS)
    assert told.value.found == "'overfiting'"
    assert told.value.remedy == "Did you mean overfitting?"


def test_a_topic_that_is_like_none() -> None:
    with pytest.raises(ConfigError) as told:
        open_lesson("xyzzy")
    assert told.value.remedy == ""


def test_the_list_loads_no_experiment() -> None:
    used = "from lookalike.lessons import catalogue; catalogue.topics(); catalogue.open_lesson('denoising')"
    script = f"{used}; import sys; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "lookalike.lessons.catalogue" in loaded
    assert not loaded & {"torch", "numpy", "matplotlib", "sklearn", "faiss", "plotille", "lookalike.lessons.denoising"}


def test_an_experiment_says_the_same_each_time() -> None:
    first, second = (open_lesson("backpropagation").show(3).numbers for _ in range(2))
    assert first == second
    assert first != open_lesson("backpropagation").show(4).numbers
