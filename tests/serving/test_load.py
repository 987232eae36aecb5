"""Many clients, clients that leave, and clients that read slowly."""

import json
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from running_server import BATCHING, KEY, Running

CHAT = "/v1/chat/completions"
LONG: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "seed": 3}
LONG |= {"max_tokens": 60}


def wait_until_idle(server: Running) -> None:
    deadline = time.monotonic() + 20
    while server.scheduler.active or server.scheduler.waiting:
        assert time.monotonic() < deadline, "slots stay taken"
        time.sleep(0.02)


def open_request(server: Running, body: dict[str, Any], receive_bytes: int | None = None) -> socket.socket:
    """Sends a request and reads nothing yet."""
    connection = socket.socket()
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.connect(("127.0.0.1", server.port))
    content = json.dumps(body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(content)}"
    connection.sendall(f"{head}\r\n\r\n".encode() + content)
    return connection


def test_200_clients_at_once_are_all_answered(server: Running) -> None:
    together = threading.Barrier(200)

    def ask(number: int) -> tuple[int, str | None]:
        together.wait()
        reply = server.ask(CHAT, LONG | {"max_tokens": 30, "seed": number, "stream": number % 2 == 0})
        if reply.status == 200:
            assert number % 2 or reply.body.rstrip().endswith(b"data: [DONE]")
            return 200, None
        assert reply.json["error"]["code"] == "queue_full"
        return reply.status, reply.headers["retry-after"]

    with ThreadPoolExecutor(200) as clients:
        replies = Counter(clients.map(ask, range(200)))
    assert {*replies} == {(200, None), (429, "1")}
    assert replies[200, None] >= BATCHING.slots + BATCHING.queue, "what fits is answered"
    assert replies.total() == 200
    wait_until_idle(server)
    assert server.ask(CHAT, LONG).status == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slots(server: Running, stream: bool) -> None:
    wait_until_idle(server)
    body = LONG | {"n": 16, "stream": stream, "temperature": 0}
    leaver = open_request(server, body)
    deadline = time.monotonic() + 10
    while server.scheduler.active < BATCHING.slots:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    begun = time.monotonic()
    leaver.close()
    wait_until_idle(server)
    left = time.monotonic() - begun
    begun = time.monotonic()
    assert server.ask(CHAT, body).status == 200
    assert left < (time.monotonic() - begun) / 2, "what nobody reads was generated to its end"


def test_a_client_that_leaves_within_its_body(server: Running) -> None:
    connection = socket.create_connection(("127.0.0.1", server.port))
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 100\r\n\r\n"
    connection.sendall(head.encode() + b'{"mod')
    connection.close()
    assert server.ask(CHAT, LONG).status == 200


def test_a_slow_reader_delays_nobody(server: Running) -> None:
    wait_until_idle(server)
    # Each event holds 20 alternatives: far more than the buffers of the connection take.
    slow = open_request(server, LONG | {"stream": True, "n": 4, "logprobs": True, "top_logprobs": 20}, 2048)
    while not server.scheduler.active:
        time.sleep(0.005)
    assert server.ask(CHAT, LONG).status == 200
    wait_until_idle(server)  # its own answer is generated, too: its slots are free while it reads
    with slow, slow.makefile("rb") as stream:
        content = b"".join(iter(stream.readline, b"0\r\n"))  # up to the last chunk of the response
    assert b"data: [DONE]" in content and content.count(b'"finish_reason": "') == 4
