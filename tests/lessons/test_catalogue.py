"""Every topic has a complete page and an experiment; listing the topics imports no experiment."""

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


def test_there_are_eighteen_topics_in_reading_order() -> None:
    assert " ".join(TOPICS) == (
        "three-pillars loss-functions activations learning-rate backpropagation optimizers schedules regularization "
        "train-and-eval overfitting vanishing-gradients cut-gradients common-mistakes autoencoders denoising "
        "features latent-space similarity-search"
    )
    assert len(set(topics().values())) == 18


@each_topic
def test_a_page_has_all_sections(topic: str) -> None:
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


def test_a_setting_that_a_page_calls_the_default_is_the_default() -> None:
    defaults = [
        setting
        for topic in TOPICS
        for sentence in re.split(r"(?<=\.)\s|\n- |:\s", open_lesson(topic).page)
        if re.search(r"\bthe\s+default\b", sentence)
        for setting in re.findall(r"`--set ([^`]*)`", sentence)
    ]
    assert len(defaults) >= 6
    assert {setting for setting in defaults if load_config(None, [setting]) != TrainConfig()} == set()


@each_topic
def test_a_page_links_only_to_existing_lessons(topic: str) -> None:
    assert set(re.findall(r"`lookalike explain ([^`]*)`", open_lesson(topic).page)) <= set(TOPICS) - {topic}


@each_topic
def test_every_setting_on_a_page_exists(topic: str) -> None:
    page = open_lesson(topic).page
    for line in re.findall(r"`--set ([^`]*)`", page):
        load_config(None, [line])
    for section, name in re.findall(r"`(data|features|model|loss|optimizer|corruption|fit)\.(\w+)`", page):
        with pytest.raises(ConfigError) as caught:
            load_config(None, [f"{section}.{name}={{}}"])
        assert caught.value.found != repr(name)  # the setting is known, and {} is refused as its value


@each_topic
def test_a_lesson_shows_numbers_and_a_picture(topic: str, shown: Callable[[str], Shown]) -> None:
    result = shown(topic)
    assert len(result.numbers) >= 4
    assert all(math.isfinite(value) for value in result.numbers.values())
    assert result.picture.title


@pytest.mark.parametrize("name", ["Latent Space", "latent_space", " latent  space ", "LATENT-SPACE"])
def test_case_spaces_and_dashes_in_a_topic_make_no_difference(name: str) -> None:
    assert open_lesson(name).topic == "latent-space"


def test_an_unknown_topic_is_refused_with_the_nearest_topic() -> None:
    with pytest.raises(ConfigError) as caught:
        open_lesson("overfiting")
    assert caught.value.field == "topic"
    assert all(topic in caught.value.expected for topic in TOPICS)
    assert caught.value.found == "'overfiting'"
    assert caught.value.remedy == "Did you mean overfitting?"


def test_an_unknown_topic_without_a_near_topic_has_no_remedy() -> None:
    with pytest.raises(ConfigError) as caught:
        open_lesson("xyzzy")
    assert caught.value.remedy == ""


def test_listing_the_topics_imports_no_experiment() -> None:
    used = "from lookalike.lessons import catalogue; catalogue.topics(); catalogue.open_lesson('denoising')"
    script = f"{used}; import sys; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "lookalike.lessons.catalogue" in loaded
    assert not loaded & {"torch", "numpy", "matplotlib", "sklearn", "faiss", "plotille", "lookalike.lessons.denoising"}


def test_an_experiment_returns_the_same_numbers_each_time() -> None:
    first, second = (open_lesson("backpropagation").show(3).numbers for _ in range(2))
    assert first == second
    assert first != open_lesson("backpropagation").show(4).numbers
