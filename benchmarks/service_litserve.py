"""The peer LitServe, with the same encoder and index, and with the given batch settings.

Run as `python -m benchmarks.service_litserve STORE PORT MAX_BATCH_SIZE BATCH_TIMEOUT`.
"""

import argparse
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import torch

from benchmarks.service_apps import search_version
from lookalike.index.versions.store import Store

__all__ = ["SearchAPI"]


class SearchAPI(litserve.LitAPI):  # type: ignore[misc]
    """Rows as JSON in, hits out; waiting requests are answered together."""

    store = Path()

    def setup(self, device: str) -> None:
        torch.set_num_threads(1)
        self.version = Store(self.store).open_champion()

    def decode_request(self, request: dict[str, Any]) -> tuple[list[list[float]], int]:
        return request["inputs"], request.get("limit", 10)

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, requests: Any) -> Any:
        """Answer a list of requests if batching is on, else a single request."""
        if not isinstance(requests, list):
            return search_version(self.version, np.array(requests[0], np.float32), requests[1])
        rows = np.array([row for inputs, _ in requests for row in inputs], np.float32)
        results = iter(search_version(self.version, rows, max(limit for _, limit in requests)))
        return [[next(results) for _ in inputs] for inputs, _ in requests]

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: list[Any]) -> dict[str, Any]:
        return {"version": self.version.number, "results": output}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("size", type=int)
    parser.add_argument("timeout", type=float)
    options = parser.parse_args()
    api = SearchAPI(max_batch_size=options.size, batch_timeout=options.timeout, api_path="/search")
    api.store = options.store
    server = litserve.LitServer(api, accelerator="cpu", fast_queue=False)
    server.run(host="127.0.0.1", port=options.port, log_level="warning", generate_client_file=False, num_api_servers=1)


if __name__ == "__main__":
    main()
