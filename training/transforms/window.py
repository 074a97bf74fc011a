"""The transform of an interval of a recording to a row of samples."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["WindowTransform"]

_Samples = Annotated[int, Field(ge=1, le=1 << 20)]
_Positive = Annotated[float, Field(gt=0)]


class WindowTransform(BaseModel):
    """How a recording becomes windows, each a row; plain JSON in the encoder artifact.

    Attributes:
        window, hop: the samples of a window, and from the start of one window to the next.
        channels: the names of the channels, in the order of a sample's values.
        rate: samples per second; recordings with another clock are resampled; None: samples have no time.
        time: the column of the times; "" if the samples have one clock.
        recording: the column that names the recording; "" if each file is one recording.
        max_gap: a gap of more seconds splits a recording; None: no gap splits it.
        max_missing: a window with a greater share of missing values is skipped.
        normalize: none keeps the values of a window; center subtracts its mean; standard also divides by its deviation.
        normalize_over: each channel for itself, or all channels together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    kind: Literal["window"] = "window"
    window: _Samples
    hop: _Samples
    channels: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    rate: _Positive | None = None
    time: str = ""
    recording: str = ""
    max_gap: _Positive | None = None
    max_missing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    normalize: Literal["none", "center", "standard"] = "none"
    normalize_over: Literal["channel", "all"] = "channel"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a row: (window, channels)."""
        return (self.window, len(self.channels))
