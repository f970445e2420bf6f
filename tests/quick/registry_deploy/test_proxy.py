"""The local proxy in this process, with no model server behind it: who may keep a connection, and encryption."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import trustme
import urllib3
from examples import module

local_target: Any = module("registry_deploy", "local_target")
local_proxy, processes = local_target.local_proxy, local_target.processes
Status = local_target.Status


@contextlib.asynccontextmanager
async def proxy(directory: Path, certificate: str = "") -> AsyncIterator[Any]:
    """The proxy of an endpoint that has no server yet; yields its state."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    state = processes.State("numbers", "127.0.0.1", port, False, {}, {}, certificate=certificate)
    processes.write_state(directory, state)
    serving = asyncio.create_task(local_proxy.serve(directory, listening))
    try:
        yield state
    finally:
        serving.cancel()
        await asyncio.wait([serving])


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"POST /invocations HTTP/1.1\r\nHost: here\r\n", b""),
        (b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\n{", b"408"),
    ],
)
def test_a_half_open_connection_is_not_kept(
    sent: bytes, answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_proxy, "IDLE_TIMEOUT", 0.3)

    async def connect() -> tuple[bytes, float]:
        async with proxy(tmp_path) as state:
            begun = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", state.port)
            writer.write(sent)
            told = await asyncio.wait_for(reader.readuntil(b" in 0.3 s") if answer else reader.read(), 600)
            writer.close()
            return told, time.monotonic() - begun

    told, seconds = asyncio.run(connect())
    assert answer in told
    assert bool(answer) == bool(told)
    assert seconds >= 0.3


def test_a_connection_with_requests_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_proxy, "IDLE_TIMEOUT", 2)

    async def ask_twice() -> list[bytes]:
        async with proxy(tmp_path) as state:
            reader, writer = await asyncio.open_connection("127.0.0.1", state.port)
            answers = []
            for pause in (2.5, 0):
                writer.write(b"GET /-/status HTTP/1.1\r\nHost: here\r\n\r\n")
                answers.append(await asyncio.wait_for(reader.readuntil(b"{}"), 600))
                await asyncio.sleep(pause)
            writer.close()
            return answers

    assert [answer.split()[1] for answer in asyncio.run(ask_twice())] == [b"200", b"200"]


def test_with_a_certificate_the_endpoint_speaks_https_only(tmp_path: Path) -> None:
    """A certificate by an authority, as people have them; its own verbs trust exactly this one, for any name."""
    authority, file = trustme.CA(), tmp_path / "certificate.pem"
    authority.issue_cert("models.example.com", "localhost").private_key_and_cert_chain_pem.write_to_path(str(file))
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "other.pem"))

    async def ask() -> None:
        async with proxy(tmp_path, str(file)) as state:

            def client(certificate: str) -> int:
                url = local_target._url(state, "/-/status")
                assert url.startswith("https://127.0.0.1")
                return int(local_target._http("GET", url, {}, 600, None, certificate).status)

            def by_authority() -> int:
                url = f"https://localhost:{state.port}/-/status"
                return requests.get(url, timeout=600, verify=str(tmp_path / "authority.pem")).status_code

            assert await asyncio.to_thread(client, str(file)) == 200
            assert await asyncio.to_thread(by_authority) == 200
            with pytest.raises(urllib3.exceptions.SSLError):
                await asyncio.to_thread(client, str(tmp_path / "other.pem"))
            with pytest.raises(requests.RequestException):
                await asyncio.to_thread(requests.get, f"http://localhost:{state.port}/-/status", timeout=600)

    asyncio.run(ask())


def test_a_file_without_a_certificate_is_refused_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("no certificate")
    target = local_target.LocalTarget("numbers", directory=tmp_path / "numbers", certificate=str(file))
    with pytest.raises(local_target.DeploymentError, match=r"^certificate=.*key\.pem: expected a PEM file with a cert"):
        target.deploy("models:/numbers/1")
    assert [path.name for path in (tmp_path / "numbers").iterdir()] == ["operation.lock"]


def test_an_address_that_another_program_takes_meanwhile_is_refused_and_asked_nothing(tmp_path: Path) -> None:
    """It was free when `deploy` began; what answers there now is not our proxy, whatever it says."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0.1)
        target = local_target.LocalTarget("numbers", directory=tmp_path)
        state = processes.State("numbers", "127.0.0.1", other.getsockname()[1], False, {}, {})
        before, taken = Status("numbers", found=state), f"^port={state.port} of 127.0.0.1 is taken by another"
        with pytest.raises(local_target.DeploymentError, match=taken), target._undone(before, "", {}):
            target._route(before, {}, "")
        with pytest.raises(TimeoutError):
            other.accept()
    assert not list(tmp_path.iterdir())


def test_the_log_says_when_a_server_that_does_not_start_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backend = local_proxy.Backend("blue", processes.Server("", "", "models:/m/1", "1", "", []), None)
    tries, paused = [False, False, True], list[float]()

    async def restart() -> None:
        backend.ready = tries.pop(0)

    async def sleep(seconds: float) -> None:
        paused.append(seconds)
        if not tries:
            raise asyncio.CancelledError

    monkeypatch.setattr(backend, "check_alive", lambda: False)
    monkeypatch.setattr(backend, "restart", restart)
    monkeypatch.setattr(local_proxy, "asyncio", SimpleNamespace(sleep=sleep))
    with caplog.at_level("INFO"), pytest.raises(asyncio.CancelledError):
        asyncio.run(backend.supervise())
    assert paused == [1, 2, 0.5]
    assert [line.removeprefix("blue (version 1) ") for line in caplog.messages] == [
        "did not start: next try in 1 s",
        "did not start: next try in 2 s",
        "serves again",
    ]
