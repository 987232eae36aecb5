"""The start and the end of a server: what it refuses, and what becomes of running answers."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running_server import BATCHING, KEY, Running

from mindllm_jax.generation.requests import Piece, Request, Ticket
from mindllm_jax.generation.scheduler import Scheduler
from mindllm_jax.serving import service
from mindllm_jax.serving.guard import api_key, is_loopback
from mindllm_jax.serving.served_model import ServedModel
from mindllm_jax.serving.server import Serve, bind, check_installed, listen, url
from mindllm_jax.training.load_run import LoadedRun, read_run

ROOT = Path(__file__).parents[2]
CHAT = "/v1/chat/completions"
BODY = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}


class Stuck(Scheduler):
    """Answers one token, then nothing until it is stopped or made to fail."""

    def __init__(self, run: LoadedRun):
        super().__init__(run.decoder, run.tokenizer, BATCHING)
        self.failing = threading.Event()
        self.cancelled = 0

    def submit(self, request: Request, deliver: Callable[[Piece], None]) -> Any:
        deliver(Piece("one", [5], [], None))
        return deliver

    def cancel(self, ticket: Ticket) -> None:
        self.cancelled += 1

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(0.02):
            if self.failing.is_set():
                raise RuntimeError("out of memory")


def read_events(running: Running, started: threading.Event, events: list[bytes]) -> None:
    connection = running.connect()
    headers = {"authorization": f"Bearer {KEY}"}
    connection.request("POST", CHAT, str(BODY | {"stream": True}).replace("'", '"').replace("True", "true"), headers)
    response = connection.getresponse()
    for line in response:
        events.append(line)
        started.set()
    connection.close()


def start_readers(running: Running) -> tuple[list[threading.Thread], list[bytes], list[Any]]:
    """Asks for an answer as a stream and for one as a whole; returns when the stream has begun."""
    started, events, replies = threading.Event(), list[bytes](), list[Any]()
    readers = [
        threading.Thread(target=read_events, args=(running, started, events)),
        threading.Thread(target=lambda: replies.append(running.ask(CHAT, BODY))),
    ]
    for reader in readers:
        reader.start()
    assert started.wait(10)
    return readers, events, replies


@pytest.mark.parametrize("failing", [False, True], ids=["stopped", "scheduler fails"])
def test_running_answers_end_by_an_error(
    run: LoadedRun,
    start_server: Callable[[Scheduler], Any],
    monkeypatch: pytest.MonkeyPatch,
    failing: bool,
) -> None:
    monkeypatch.setattr(service, "GRACE", 0.3)
    scheduler = Stuck(run)
    raised: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: raised.append(arguments.exc_value))
    server, running, thread = start_server(scheduler)
    readers, events, replies = start_readers(running)
    time.sleep(0.1)
    if failing:
        scheduler.failing.set()
    else:
        server.stop()
        time.sleep(0.1)
        late = running.ask(CHAT, BODY)
        assert late.status == 503 and late.json["error"]["code"] == "shutting_down"
        assert running.ask("/health").json["status"] == "closing"
    for reader in readers:
        reader.join(10)
    thread.join(10)
    assert not thread.is_alive()
    message = b"the server failed" if failing else b"the server is shutting down"
    data = [line for line in events if line.startswith(b"data:")]
    assert b'"content": "one"' in data[1] and message in data[-1]
    assert replies[0].status == (500 if failing else 503) and message in replies[0].body
    assert scheduler.cancelled == 2
    assert [str(error) for error in raised] == (["out of memory"] if failing else [])


def test_a_second_signal_ends_running_answers_at_once(
    run: LoadedRun, start_server: Callable[[Scheduler], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "GRACE", 30)
    server, running, thread = start_server(Stuck(run))
    readers, events, replies = start_readers(running)
    for _ in range(2):
        time.sleep(0.2)
        server._http.handle_exit(signal.SIGTERM, None)
    for reader in [*readers, thread]:
        reader.join(10)
        assert not reader.is_alive()
    assert replies[0].status == 503 and any(b"the server is shutting down" in line for line in events)


def test_a_failure_of_the_scheduler_is_the_reason_of_its_answers(
    run: LoadedRun, start_server: Callable[[Scheduler], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(run.decoder, run.tokenizer, BATCHING)
    monkeypatch.setattr(scheduler, "_compute", lambda _parts: 1 / 0)
    monkeypatch.setattr(threading, "excepthook", lambda _arguments: None)
    _, running, thread = start_server(scheduler)
    reply = running.ask(CHAT, BODY)
    assert reply.status == 500 and "the server failed" in reply.json["error"]["message"]
    thread.join(10)
    assert not thread.is_alive()


def test_a_request_that_is_encoded_while_the_server_ends(
    run: LoadedRun, start_server: Callable[[Scheduler], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "GRACE", 0)
    requests = ServedModel.requests
    server, running, thread = start_server(Stuck(run))

    def slow(model: ServedModel, body: Any) -> list[Request]:
        server.stop()
        time.sleep(0.5)
        return requests(model, body)

    monkeypatch.setattr(ServedModel, "requests", slow)
    reply = running.ask(CHAT, BODY)
    assert reply.status == 503 and reply.json["error"]["code"] == "shutting_down"
    thread.join(10)
    assert not thread.is_alive()


def test_only_the_loopback_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINDLLM_API_KEY", raising=False)
    assert api_key("127.0.0.1") is api_key("localhost") is api_key("::1") is None
    for host in ("0.0.0.0", "::", "192.168.0.3", "example.org", ""):
        assert not is_loopback(host)
        with pytest.raises(ValueError, match="set MINDLLM_API_KEY in the environment"):
            api_key(host)
    monkeypatch.setenv("MINDLLM_API_KEY", "secret")
    assert api_key("0.0.0.0") == api_key("127.0.0.1") == "secret"
    monkeypatch.setenv("MINDLLM_API_KEY", "se cret")
    with pytest.raises(ValueError, match="printable ASCII"):
        api_key("127.0.0.1")


def test_an_address_that_cannot_be_had() -> None:
    with bind(Serve(run="unused", port=0)) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        assert url(taken) == f"http://127.0.0.1:{port}"
        with pytest.raises(OSError, match=rf"cannot serve on 127\.0\.0\.1:{port}: .*; try another Serve\.port"):
            bind(Serve(run="unused", port=port))
    with pytest.raises(OSError, match=r"cannot serve on no-such-host\.invalid"):
        bind(Serve(run="unused", host="no-such-host.invalid"))
    for port in (-1, 65536):
        with pytest.raises(ValueError, match=r"Serve\.port"):
            Serve(run="unused", port=port)
    with pytest.raises(ValueError, match=r"Serve\.max_body_bytes"):
        Serve(run="unused", max_body_bytes=0)


def test_two_servers_that_start_together() -> None:
    with bind(Serve(run="unused", port=0)) as first, bind(Serve(run="unused", port=first.getsockname()[1])) as second:
        listen(first)
        with pytest.raises(OSError, match=r"cannot serve on http://127\.0\.0\.1:\d+: .*; try another Serve\.port"):
            listen(second)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else name)
    with pytest.raises(ImportError, match=r"serving needs uvicorn: pip install 'mindllm-jax\[serve\]'"):
        check_installed()


def test_the_fingerprint_is_of_the_checkpoint(run_folder: Path, run: LoadedRun, served_model: ServedModel) -> None:
    assert re.fullmatch("fp_[0-9a-f]{12}", served_model.fingerprint)
    assert served_model.name == "small" and abs(served_model.created - time.time()) < 3600
    assert read_run(run_folder).folder.name == "3"


def serve(run_folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, ROOT / "launch/serve.py", f"--gin.Serve.run={run_folder}", "--gin.Serve.port=0", *words]
    clean = {name: value for name, value in os.environ.items() if name != "MINDLLM_API_KEY"} | environment
    return subprocess.Popen(
        command, cwd=ROOT, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def test_the_command_serves_until_it_is_stopped(run_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed (the extra serve)")
    settings = ("--gin.Batching.slots=4", "--gin.Batching.prefill_chunk=32")  # programs that are compiled already
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" >> "{opened}"\n')
    browser.chmod(0o755)
    words = (*settings, "--gin.Serve.browser=True")
    with serve(run_folder, *words, MINDLLM_API_KEY=KEY, BROWSER=f"{browser} %s") as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            address = next(found for line in process.stdout if (found := re.search(r"http://127.0.0.1:(\d+)/v1", line)))
            running = Running(int(address[1]), None)  # pyright: ignore[reportArgumentType]
            assert running.ask("/v1/models").json["data"][0]["id"] == "small"
            assert running.ask(CHAT, BODY).status == 200
            deadline = time.monotonic() + 10
            while not opened.exists() or not opened.read_text():
                assert time.monotonic() < deadline, "the browser was not opened"
                time.sleep(0.02)
            assert opened.read_text() == f"http://127.0.0.1:{running.port}\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, process.stderr.read()
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_a_dry_run_prints_what_it_would_serve(run_folder: Path) -> None:
    with serve(run_folder, "--dry_run") as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert f"{run_folder}" in output and "layers=2" in output and "127.0.0.1:0, without an API key" in output


def test_another_interface_without_a_key_is_refused_at_once(run_folder: Path) -> None:
    with serve(run_folder, "--gin.Serve.host=0.0.0.0") as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.startswith("error: Serve.host = '0.0.0.0' is reachable from other machines, which needs an API key")
