"""Short representations of user input for error messages."""

__all__ = ["truncate_repr"]


def truncate_repr(value: object) -> str:
    """Return a short representation of a value, regardless of its size or depth."""
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:40]}…")
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length():,} bits"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, dict):
        keys = [truncate_repr(key) for key, _ in zip(value, range(4), strict=False)]
        return f"an object of {', '.join(keys)}{', …' if len(value) > len(keys) else ''}" if keys else "an empty object"
    return f"a list of {len(value):,}" if isinstance(value, list) else type(value).__name__
