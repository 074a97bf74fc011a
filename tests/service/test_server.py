import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest

from lookalike.index.errors import StoreError
from lookalike.index.versions.version import Version
from lookalike.service.server import serve
from lookalike.training.errors import ArtifactError, ConfigError
from tests.service.changing import ROWS, assert_of_one_version, changing_store, wait_until
from tests.service.helpers import JSON, answered, pixels_of, settings_for
from tests.service.process import SEARCH, Process, connect, free_port, read_status, running


@pytest.fixture(scope="module")
def server(store_folder: Path) -> Iterator[Process]:
    limits = {"LOOKALIKE_BODY_SECONDS": "0.2", "LOOKALIKE_MAX_BODY_BYTES": "100000"}
    with running("serve", "--store", str(store_folder), "--port", "0", **limits) as process:
        yield process


@pytest.fixture
def own_server(store_folder: Path) -> Iterator[Process]:
    with running("serve", "--store", str(store_folder), "--port", "0", LOOKALIKE_STOP_SECONDS="1") as process:
        yield process


@pytest.fixture
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_announces_its_address_and_answers_there(server: Process, version: Version) -> None:
    assert server.lines[-1] == f"version 1 at {server.url}, Ctrl-C to stop\n"
    answer = httpx.post(f"{server.url}/embed", json={"inputs": pixels_of("5").tolist()})
    np.testing.assert_allclose(answer.json()["embeddings"], version.embed(pixels_of("5")), atol=1e-5)
    assert httpx.get(f"{server.url}/readyz").json() == {"ready": True, "version": 1, "refused": None}
    assert "server" not in answer.headers


def test_a_stalled_body_is_given_up_and_the_connection_closed(server: Process) -> None:
    with connect(server.address, f"{SEARCH}Content-Length: 99\n\n") as connection:
        assert read_status(connection) == 408
        while connection.recv(65_536):
            pass


@pytest.mark.parametrize("length", ["Content-Length: 100001", "Content-Length: 99999999999999999999999"])
def test_refuses_a_large_content_length_without_reading(server: Process, length: str) -> None:
    with connect(server.address, f"{SEARCH}{length}\n\n") as connection:
        assert read_status(connection) in {413, 400}


def test_a_chunked_body_too_large_is_refused(server: Process) -> None:
    answer = httpx.post(
        f"{server.url}/search", content=(b" " * 50_000 for _ in range(3)), headers={"Content-Type": JSON}
    )
    answered(answer, 413, "body")


def test_a_client_that_leaves_in_the_middle_is_no_failure_of_ours(server: Process) -> None:
    connect(server.address, f"{SEARCH}Content-Length: 99\n\n{{").close()
    with connect(server.address, "POST /em") as half:
        half.shutdown(1)
    counts = httpx.get(f"{server.url}/metrics").text
    assert 'status="500"' not in counts


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_from_the_moment_that_it_is_announced(own_server: Process, number: int) -> None:
    code, errors = own_server.stop(number)
    told = [json.loads(line) for line in errors.splitlines()]
    assert (code, {line["level"] for line in told} - {"info"}) == (0, set())


def test_accepted_work_is_finished_and_no_more_is_taken(own_server: Process) -> None:
    body = json.dumps({"ids": ["0"]}).encode()
    head = f"{SEARCH}Content-Length: {len(body)}\nExpect: 100-continue\n\n"
    with connect(own_server.address, head) as connection:
        assert read_status(connection) == 100  # it waits for the body
        own_server.popen.send_signal(signal.SIGTERM)
        wait_until_refused(own_server)
        connection.sendall(body)
        assert read_status(connection) == 200
    assert own_server.popen.wait(60) == 0


def test_a_client_that_stalls_does_not_hold_up_the_end(own_server: Process) -> None:
    head = f"{SEARCH}Content-Length: 9\nExpect: 100-continue\n\n"
    with connect(own_server.address, head) as connection:
        assert read_status(connection) == 100
        code, errors = own_server.stop()
    assert code == 0
    assert "timeout graceful shutdown exceeded" in errors


def test_a_service_that_stops_is_not_ready_from_then_on(own_server: Process) -> None:
    """A stalled client delays the end; the open connection gets 503, or is closed."""
    stalled = f"{SEARCH}Content-Length: 9\n\n{{"
    with connect(own_server.address, stalled), httpx.Client(base_url=own_server.url) as client:
        assert client.get("/readyz").status_code == 200
        own_server.popen.send_signal(signal.SIGTERM)
        wait_until(lambda: ready_or_closed(client) != 200)
        assert ready_or_closed(client) in {503, 0}
    assert own_server.popen.wait(60) == 0


def ready_or_closed(client: httpx.Client) -> int:
    """The status of /readyz; 0 if the connection was closed."""
    try:
        return client.get("/readyz").status_code
    except httpx.TransportError:
        return 0


def test_a_running_process_serves_a_promoted_version(tmp_path: Path) -> None:
    store = changing_store(tmp_path)
    with running("serve", "--store", str(store.folder), "--port", "0", LOOKALIKE_DEVICE="cpu") as process:
        for number in (2, 1):
            store.promote(number)
            wait_until(partial(serves, process, number))
            answer = httpx.post(f"{process.url}/embed", json={"inputs": ROWS.tolist()}).json()
            assert answer["version"] == number
            assert_of_one_version(answer, ROWS)
        code, errors = process.stop()
    told = [json.loads(line) for line in errors.splitlines()]
    assert [line["version"] for line in told if line["event"] == "serving"] == [1, 2, 1]
    assert code == 0


def serves(process: Process, number: int) -> bool:
    return bool(httpx.get(f"{process.url}/version").json()["version"] == number)


def test_a_slow_reader_and_an_idle_socket_block_no_call(server: Process) -> None:
    body = json.dumps({"ids": ["0"] * 300, "limit": 300}).encode()
    head = f"{SEARCH}Content-Length: {len(body)}\n\n"
    with connect(server.address, head) as slow, connect(server.address), connect(server.address, "POST /em"):
        slow.sendall(body)
        for content in (b"[" * 50_000 + b"]" * 50_000, b'{"inputs": ' + b"[" * 40_000, b'{"a":' * 20_000):
            answer = httpx.post(f"{server.url}/embed", content=content, headers={"Content-Type": JSON})
            answered(answer, answer.status_code, "")
            assert answer.status_code in {400, 422}
            assert httpx.post(f"{server.url}/search", json={"ids": ["0"]}).status_code == 200
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        assert read_status(slow) == 200


def wait_until_refused(server: Process) -> None:
    while True:
        try:
            connect(server.address).close()
        except OSError:
            return


def test_a_port_that_is_taken_is_one_clear_line(server: Process, store_folder: Path) -> None:
    port = str(server.address[1])
    command = [sys.executable, "-m", "lookalike", "serve", "--store", str(store_folder), "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lookalike: host and port: expected an address to listen on, found 127.0.0.1:")
    assert done.stderr.count("\n") == 1
    assert httpx.get(f"{server.url}/livez").status_code == 200


class Announced(Exception):  # noqa: N818
    """Ends a server before it serves."""


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("::1", "[::1]")])
def test_announces_a_url_that_can_be_opened(store_folder: Path, host: str, shown: str) -> None:
    port = free_port()

    def announce(url: str, number: int) -> None:
        assert (url, number) == (f"http://{shown}:{port}", 1)
        raise Announced

    with pytest.raises(Announced):
        serve(settings_for(store_folder, host=host, port=port), announce)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_ours_is_refused(store_folder: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=host):
        serve(settings_for(store_folder, host=host, port=0), unannounced)


def unannounced(url: str, number: int) -> None:
    raise AssertionError(url)


def test_without_a_champion_there_is_nothing_to_serve(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="lookalike promote"):
        serve(settings_for(tmp_path), unannounced)


@pytest.mark.parametrize(
    "name", ["index.faiss", "items.arrow", "order.npy", "canary.npy", "manifest.json", "encoder/weights.safetensors"]
)
def test_a_damaged_champion_is_refused_by_file(store_folder: Path, tmp_path: Path, name: str) -> None:
    store = Path(shutil.copytree(store_folder, tmp_path / "store"))
    path = store / "versions" / "000001" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError) as refused:
        serve(settings_for(store), unannounced)
    assert str(path) in refused.value.field


def test_json_is_the_answer_of_a_real_server_too(server: Process) -> None:
    answer = httpx.post(f"{server.url}/search", content=b"{", headers={"Content-Type": JSON})
    answered(answer, 400, "body")
