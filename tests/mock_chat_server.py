"""A stand-in for the server: the page's files, and answers in the shape of OpenAI's API, chosen by the question."""

from __future__ import annotations

import codecs
import json
import math
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mindllm_jax

PAGE = Path(mindllm_jax.__file__).parent / "serving/page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HTML = '<img src="x" onerror="document.title = 1"><script>document.title = 2</script> &amp; <b>bold</b>'
CODE = "Code:\n\n```python\nif a < b:\n    print(a)\n```\n\nIt prints *a*.\nThe end."
GLACIER = "A glacier is a massive ice sheet that covers vast areas of land. It moves slowly under its own weight."
CHINESE = "冰川是由积雪经过多年压缩而形成的巨大冰体，在自身重量的作用下缓慢移动。"
POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
ALTERNATIVES = (" river", " mountain", " valley", " lake")


class Handler(BaseHTTPRequestHandler):
    """Serves the page and answers; a question's first word chooses among answers and errors."""

    @property
    def mock(self) -> MockServer:
        """The server, which is a MockServer."""
        assert isinstance(self.server, MockServer)
        return self.server

    def log_message(self, format: str, *args: Any) -> None:
        """Writes nothing."""

    def reply(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        policy = {"Content-Type": kind, "Content-Length": str(len(body)), "Content-Security-Policy": POLICY}
        for name, value in {**policy, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, message: str, **headers: str) -> None:
        self.reply(status, json.dumps({"error": {"message": message}}).encode(), "application/json", **headers)

    def authorized(self) -> bool:
        key = self.mock.key
        if key and self.headers.get("Authorization") != f"Bearer {key}":
            self.refuse(401, "wrong key")
            return False
        return True

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            if self.authorized():
                self.reply(
                    200,
                    json.dumps({"data": [{"id": "smollm2-135m", "sampling": self.mock.sampling}]}).encode(),
                    "application/json",
                )
            return
        file = PAGE / ("index.html" if self.path == "/" else self.path[1:])
        if file.is_file():
            self.reply(200, file.read_bytes(), f"{TYPES[file.suffix]}; charset=utf-8")
        else:
            self.refuse(404, "no such file")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.mock.requests.append(body)
        if not self.authorized():
            return
        chat = self.path.startswith("/v1/chat")
        prompt: str = body["messages"][-1]["content"] if chat else body["prompt"]
        if prompt.startswith("busy") and self.mock.busy > 0:
            self.mock.busy -= 1
            self.refuse(429, "the queue is full", Retry_After="1")
        elif prompt.startswith("long") or self.mock.refuse_all:
            self.refuse(400, "<b>5,000</b> tokens, the model has 2,048 positions")
        else:
            self.stream(chat, prompt, body)

    def stream(self, chat: bool, prompt: str, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.end_headers()
        tokens = list(pieces(prompt))
        if not chat:
            tokens[0] = b" " + tokens[0]
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            self.wfile.write(b": ping\r\n\r\n")
            for i, token in enumerate(tokens):
                if prompt.startswith("broken") and i == 3:
                    return
                self.send(chat, decoder.decode(token), token, i, body, "stop" if i == len(tokens) - 1 else None)
                time.sleep(0.15 if prompt.startswith("slow") else 0.005)
            self.data({"choices": [], "usage": {"completion_tokens": len(tokens)}})
            self.wfile.write(b"data: [DONE]\r\n\r\n")
        except OSError:
            self.mock.disconnects += 1

    def send(self, chat: bool, text: str, token: bytes, i: int, body: dict[str, Any], finish: str | None) -> None:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        choice |= {"delta": {"content": text}} if chat else {"text": text}
        if body.get("logprobs"):
            p = (0.97, 0.62, 0.31, 0.08, 0.88)[i % 5]
            others = [(other.encode(), (1 - p) / 2 ** (n + 1)) for n, other in enumerate(ALTERNATIVES)]
            logs = [(name, math.log(value)) for name, value in [(token, p), *others]]
            if chat:
                top = [{"token": t.decode(errors="replace"), "logprob": v, "bytes": list(t)} for t, v in logs]
                choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
            else:
                named = {legacy_name(t): v for t, v in logs}
                first = next(iter(named))
                choice["logprobs"] = {"tokens": [first], "token_logprobs": [named[first]], "top_logprobs": [named]}
        self.data({"choices": [choice]})

    def data(self, value: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\r\n\r\n".encode())


def legacy_name(token: bytes) -> str:
    """Returns the name of a token in a text completion."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def pieces(prompt: str) -> Iterator[bytes]:
    """Yields the tokens of the answer to a prompt."""
    if "html" in prompt:
        text = HTML
    elif "code" in prompt:
        text = CODE
    elif any("\u4e00" <= c <= "\u9fff" for c in prompt):
        text = CHINESE
    else:
        text = GLACIER
    if "bytes" in prompt:
        yield from (CHINESE.encode()[i : i + 2] for i in range(0, 3 * 6, 2))
    elif text in (CHINESE, HTML):
        yield from (text[i : i + 2].encode() for i in range(0, len(text), 2))
    else:
        words = text.split(" ")
        yield from (f" {word}".encode() if i else word.encode() for i, word in enumerate(words))


class MockServer(ThreadingHTTPServer):
    """The server on a free port of the loopback; it remembers the bodies of requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.key = ""
        self.sampling: dict[str, float | None] = {}
        self.busy = 0  # refuse so many questions that begin with "busy"
        self.refuse_all = False
        self.disconnects = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"
