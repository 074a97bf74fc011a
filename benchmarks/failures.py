"""What `benchmarks.durability` must never see."""

__all__ = ["NotHeldError"]


class NotHeldError(Exception):
    """Something acknowledged is lost, or something is there that nobody wrote, or no verified version serves."""
