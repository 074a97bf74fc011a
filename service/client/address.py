"""The address of a service, and the headers of every call."""

import httpx

__all__ = ["base_url", "client_headers"]


def base_url(url: str) -> httpx.URL:
    """Return the parsed address of a service. Raises ValueError if it is not http or https."""
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"url: expected http://HOST:PORT or https://HOST, found an invalid URL: {error}") from error
    if base.scheme not in {"http", "https"} or not base.host:
        raise ValueError(f"url: expected http://HOST:PORT or https://HOST, found scheme {base.scheme or 'none'!r}")
    return base


def client_headers(api_key: str | None) -> dict[bytes, bytes]:
    """Return the headers of every call: the key in UTF-8, and no compression, because .npy does not compress well.

    Raises ValueError if the key cannot be sent in a header.
    """
    headers = {b"Accept-Encoding": b"identity", b"User-Agent": b"lookalike-client"}
    if api_key is None:
        return headers
    if not api_key or not api_key.isprintable() or api_key != api_key.strip():
        expected = "printable text without leading or trailing spaces"
        raise ValueError(f"api_key: expected {expected}, found something else")  # never show the key
    return headers | {b"X-API-Key": api_key.encode("utf-8", "surrogateescape")}
