"""Floor one: read rows, fit an autoencoder, judge it, and export its encoder."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.estimator import AutoencoderEmbedder

__all__ = ["AutoencoderEmbedder"]


def __getattr__(name: str) -> Any:
    """The estimator is loaded when it is asked for: it takes scikit-learn and the training loop."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from training import estimator

    return getattr(estimator, name)
