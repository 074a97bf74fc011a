from lookalike.cli.reading_options import ReadingOptions
from lookalike.training.config import load_config


def test_the_options_of_recordings_are_settings() -> None:
    options = ReadingOptions(
        window="2s",
        hop="64",
        channels="a, b",
        time="t",
        recording="who",
        rate="50",
        normalize="standard",
        max_gap="500ms",
        max_unreadable="0.5",
    )
    data = load_config(None, options.overrides()).data
    assert (data.window, data.hop, data.channels, data.time) == ("2s", 64, ("a", "b"), "t")
    assert (data.recording, data.rate, data.normalize, data.max_gap) == ("who", 50.0, "standard", "500ms")
    assert data.max_unreadable == 0.5


def test_no_options_are_the_defaults() -> None:
    assert ReadingOptions().overrides() == []
