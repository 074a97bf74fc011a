"""Names that settings, artifacts and commands accept. Imports nothing of the package, so that commands start fast."""

from typing import Literal

__all__ = ["DeviceName", "ScaleKind"]

DeviceName = Literal["auto", "cpu", "cuda"]
ScaleKind = Literal["center", "range", "column-range", "standard", "channel", "none"]
