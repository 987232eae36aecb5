"""Bad requests: each is refused with OpenAI's error body, and the server answers the next one."""

import gzip
import json
from typing import Any

import pytest
from running_server import KEY, Running

from mindllm_jax.serving.service import Service

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USER = {"role": "user", "content": "Hi"}
MESSAGES = {"messages": [USER]}


def error(
    server: Running, path: str, body: bytes | dict[str, Any] | None, status: int, **options: Any
) -> dict[str, Any]:
    """The error of a request, whose body must have OpenAI's shape and nothing of the program."""
    reply = server.ask(path, body, **options)
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/json"
    assert {*reply.json} == {"error"} and {*reply.json["error"]} == {"message", "type", "param", "code"}
    assert b"Traceback" not in reply.body and b".py" not in reply.body
    return reply.json["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"[1]", "an array, where a JSON object is expected"),
        (b'{"model": "small", "temperature": NaN}', "NaN is not JSON"),
        (b'{"n": ' + b"9" * 5000 + b"}", "not JSON that can be read"),
        (b'{"a": ' + b"[" * 50_000 + b"}", "not JSON that can be read"),
    ],
    ids=["empty", "cut", "bytes", "array", "NaN", "digits", "nested"],
)
def test_a_body_that_is_not_a_json_object(server: Running, body: bytes, message: str) -> None:
    found = error(server, CHAT, body, 400)
    assert message in found["message"] and found["code"] == "invalid_json"


def test_a_compressed_body(server: Running) -> None:
    body = gzip.compress(json.dumps({"model": "small", **MESSAGES}).encode())
    found = error(server, CHAT, body, 415, content_encoding="gzip")
    assert "Content-Encoding: gzip" in found["message"]


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({}, "messages", "is missing"),
        ({"messages": []}, "messages", "is empty"),
        ({"messages": "Hi"}, "messages", "is a string, where an array is expected"),
        ({"messages": ["Hi"]}, "messages[0]", "is a string, where an object is expected"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role", "is missing"),
        ({"messages": [{"role": "tool", "content": "Hi"}]}, "messages[0].role", "is 'tool'; supported are system"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages[0].content", "is empty"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "is empty"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "a number, where a string or an array"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content",
            "not of the type text",
        ),
        ({"messages": [USER | {"tool_calls": [{}]}]}, "messages[0].tool_calls", "is not supported"),
        ({"messages": [USER, USER]}, "messages", "user and assistant take turns"),
        (
            {"messages": [USER, {"role": "assistant", "content": "Ho"}]},
            "messages",
            "the last message must be the user's",
        ),
        ({"messages": [{"role": "assistant", "content": "Ho"}, USER]}, "messages", "user and assistant take turns"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages", "lone surrogate"),
        (
            {"messages": [{"role": "user", "content": "x" * 100_000}]},
            "messages",
            "the model's context is 96 tokens, and",
        ),
        (MESSAGES | {"max_tokens": 0}, "max_tokens", "at least 1"),
        (MESSAGES | {"max_tokens": 2.5}, "max_tokens", "an integer is expected"),
        (MESSAGES | {"max_tokens": True}, "max_tokens", "is a boolean, where a number is expected"),
        (MESSAGES | {"max_completion_tokens": 96}, "messages", "shorten 'messages' or 'max_tokens'"),
        (MESSAGES | {"temperature": "hot"}, "temperature", "is a string, where a number is expected"),
        (MESSAGES | {"temperature": 2.1}, "temperature", "at most 2"),
        (MESSAGES | {"temperature": 1e999}, "temperature", "not JSON"),
        (MESSAGES | {"top_p": 0}, "top_p", "must be above 0"),
        (MESSAGES | {"top_k": 10**6}, "top_k", "at most"),
        (MESSAGES | {"seed": 2**63}, "seed", "at most"),
        (MESSAGES | {"n": 0}, "n", "at least 1"),
        (MESSAGES | {"n": 10**30}, "n", "too large"),
        (MESSAGES | {"n": 17}, "n", "17 choices are more than the 16"),
        (MESSAGES | {"stop": [""]}, "stop", "not empty"),
        (MESSAGES | {"stop": ["a"] * 5}, "stop", "at most 4"),
        (MESSAGES | {"stop": [1]}, "stop", "a string"),
        (MESSAGES | {"stop": "a" * 1001}, "stop", "more than 1,000 characters"),
        (MESSAGES | {"logprobs": 1}, "logprobs", "a boolean is expected"),
        (MESSAGES | {"top_logprobs": 1}, "top_logprobs", "needs 'logprobs': true"),
        (MESSAGES | {"logprobs": True, "top_logprobs": 21}, "top_logprobs", "at most 20"),
        (MESSAGES | {"stream_options": {"include_usage": True}}, "stream_options", "needs 'stream': true"),
        (MESSAGES | {"stream": True, "stream_options": {"usage": 1}}, "stream_options.usage", "is not a known field"),
        (MESSAGES | {"temprature": 1}, "temprature", "did you mean 'temperature'?"),
        (MESSAGES | {"tools": [{"type": "function"}]}, "tools", "is not supported by this server"),
        (MESSAGES | {"response_format": {"type": "json_object"}}, "response_format", "is not supported"),
        (MESSAGES | {"presence_penalty": 0.5}, "presence_penalty", "is not supported"),
        (MESSAGES | {"logit_bias": {"1": 5}}, "logit_bias", "is not supported"),
        (MESSAGES | {"best_of": 1}, "best_of", "is not a known field"),
        (MESSAGES | {"\ud800": 1}, "\\ud800", "is not a known field"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_chat_that_cannot_be(server: Running, fields: dict[str, Any], param: str, message: str) -> None:
    found = error(server, CHAT, {"model": "small"} | fields, 400)
    if "not JSON" not in message:
        assert found["param"] == param
    assert message in found["message"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "is missing"),
        ({"prompt": []}, "is an empty array"),
        ({"prompt": [[]]}, "none of them empty"),
        ({"prompt": [1, "a"]}, "must be a text"),
        ({"prompt": [1, 10**6]}, "outside the vocabulary"),
        ({"prompt": [-1]}, "outside the vocabulary"),
        ({"prompt": "\udc00"}, "lone surrogate"),
        ({"prompt": ["a"] * 17}, "17 choices are more than the 16"),
        ({"prompt": "a", "echo": True}, "is not supported"),
        ({"prompt": "a", "best_of": 2}, "is not supported"),
        ({"prompt": "a", "suffix": "b"}, "is not supported"),
        ({"prompt": "a", "logprobs": 6}, "at most 5"),
        ({"prompt": "a", "messages": []}, "is not a known field"),
        ({"prompt": "a " * 200}, "the model's context is 96 tokens"),
    ],
)
def test_a_text_completion_that_cannot_be(server: Running, fields: dict[str, Any], message: str) -> None:
    assert message in error(server, TEXT, {"model": "small"} | fields, 400)["message"]


def test_fields_that_change_nothing_are_accepted(server: Running) -> None:
    fields = {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "parallel_tool_calls": True}
    fields |= {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "presence_penalty": 0.0}
    fields |= {"logit_bias": {}, "temperature": None, "stop": None, "n": 1.0, "max_tokens": 1}
    parts = [{"type": "text", "text": "Hi"}]
    messages = [{"role": "developer", "content": "Be kind"}, {"role": "user", "content": parts, "name": "me"}]
    reply = server.ask(CHAT, {"model": "small", "messages": messages} | fields)
    assert reply.status == 200 and reply.json["usage"]["completion_tokens"] <= 1


def test_an_answer_that_was_empty_may_be_sent_back(server: Running) -> None:
    messages = [USER, {"role": "assistant", "content": ""}, USER]
    assert server.ask(CHAT, {"model": "small", "messages": messages, "max_tokens": 1}).status == 200


def test_unknown_models_paths_and_methods(server: Running) -> None:
    found = error(server, CHAT, MESSAGES | {"model": "large"}, 404)
    assert found["code"] == "model_not_found" and "this server has 'small'" in found["message"]
    assert "missing" in error(server, CHAT, MESSAGES, 400)["message"]
    assert "/v1/embeddings" in error(server, "/v1/embeddings", {}, 404)["message"]
    assert error(server, "/nothing", None, 404)["type"] == "invalid_request_error"
    assert "GET" in error(server, CHAT, None, 405)["message"]
    assert server.ask(CHAT).headers["allow"] == "POST"
    error(server, "/v1/models", {}, 405)


def test_wrong_keys(server: Running) -> None:
    for header in ("Bearer wrong", "Bearer ", KEY, "Basic " + KEY, f"Bearer {KEY} ä"):
        reply = server.ask("/v1/models", authorization=header)
        assert reply.status == 401 and reply.json["error"]["code"] == "invalid_api_key"
        assert reply.headers["www-authenticate"] == "Bearer"
    connection = server.connect()
    connection.request("POST", CHAT, json.dumps(MESSAGES | {"model": "small"}))
    response = connection.getresponse()
    assert response.status == 401 and b"an API key is needed" in response.read()
    connection.close()
    assert server.ask("/health", authorization="").status == 200


def test_a_large_body(server: Running) -> None:
    found = error(server, CHAT, b"x" * 200_001, 413)
    assert "larger than 200000 bytes" in found["message"]
    connection = server.connect()  # without a length in front
    chunks = (b"x" * 50_000 for _ in range(5))
    connection.request("POST", CHAT, chunks, {"authorization": f"Bearer {KEY}"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_other_sites_are_refused(server: Running) -> None:
    assert "'evil.example'" in error(server, "/health", None, 400, host="evil.example")["message"]
    assert error(server, "/health", None, 400, host="localhost.evil.example:80")["code"] == "invalid_host"
    error(server, "/health", None, 400, host="[::1")
    for host in ("localhost", f"127.0.0.1:{server.port}", "[::1]:8000", "LOCALHOST:1"):
        assert server.ask("/health", host=host).status == 200
    found = error(server, CHAT, MESSAGES, 403, origin="https://evil.example")
    assert found["code"] == "invalid_origin"
    for broken in ("null", "http://[evil"):
        error(server, CHAT, MESSAGES, 403, origin=broken)
    for own in ("", f"http://127.0.0.1:{server.port}"):
        reply = server.ask("/v1/models", origin=own)
        assert reply.status == 200 and not any(name.startswith("access-control") for name in reply.headers)


def test_a_failure_of_the_server_shows_no_traceback(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> None:
        raise RuntimeError("secret.py")

    with monkeypatch.context() as patch:
        patch.setattr(Service, "_content", fail)
        found = error(server, CHAT, MESSAGES, 500)
        assert found["type"] == "server_error" and "secret" not in found["message"]
    assert server.ask("/health").status == 200
