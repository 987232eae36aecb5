"""Rationales from an endpoint that times out, limits the rate, fails, and answers nonsense: resumed, counted, told."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint_server import EndpointServer

from launch.rationales import main
from mindllm_jax.instruct.domains.prepare import Asked
from mindllm_jax.instruct.domains.rationales import Rationale, Rationales, read_rationales, write_rationales

RECORDS = [Asked(f"id{i}", f"question {i}", "yes", "") for i in range(6)]


class Endpoint(EndpointServer):
    """Gives the replies of `script` for a question in turn, and a good one when they are used up."""

    def __init__(self) -> None:
        super().__init__()
        self.script: dict[str, list[Any]] = {}

    def answer(self, text: str) -> Any:
        which = next(record.id for record in RECORDS if f"{record.question}\n" in text)
        replies = self.script.get(which, [])
        return replies.pop(0) if replies else f"because of {which}"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    with server.running():
        yield server


def settings(endpoint: Endpoint, **changes: Any) -> Rationales:
    return Rationales(**{"url": endpoint.url, "model": "m", "timeout": 0.4, "attempts": 3, "longest": 40} | changes)


def test_every_kind_of_reply_is_counted_and_a_rerun_asks_for_what_is_missing(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.script = {
        "id0": ["sleep"],
        "id1": [429, 429],
        "id2": [500],
        "id3": [b"<html>", {"no": "text"}, "cut off"],
        "id4": ["x" * 41],
    }
    waits: list[float] = []
    path = tmp_path / "deep/rationales.jsonl"
    counts = write_rationales(settings(endpoint), path, RECORDS, waits.append)
    assert counts == {
        "answered": 4,
        "timed out": 1,
        "refused for the rate": 2,
        "error 500": 1,
        "nonsense": 3,
        "cut at max_tokens": 1,
        "without a rationale": 2,
    }
    assert waits.count(3.0) == 2, "as Retry-After asks"
    assert read_rationales(path) == {f"id{i}": Rationale(f"because of id{i}", "yes", "m") for i in (0, 1, 2, 5)}
    asked = len(endpoint.asked)
    again = write_rationales(settings(endpoint), path, RECORDS, waits.append)
    assert again == {"kept from before": 4, "answered": 2} and len(endpoint.asked) == asked + 2
    assert len(read_rationales(path)) == 6
    other = write_rationales(settings(endpoint, model="other", limit=1), path, RECORDS, waits.append)
    assert other == {"answered": 1}, "another model's rationales are others"


def test_a_line_cut_by_a_killed_process_is_asked_for_again(endpoint: Endpoint, tmp_path: Path) -> None:
    path = tmp_path / "rationales.jsonl"
    write_rationales(settings(endpoint), path, RECORDS[:2])
    path.write_text(cut := path.read_text()[:-10])
    assert len(read_rationales(path)) == 1 and path.read_text() == cut, "reading changes nothing"
    assert write_rationales(settings(endpoint), path, RECORDS[:2]) == {"kept from before": 1, "answered": 1}
    assert len(read_rationales(path)) == 2 and path.read_text().count("\n") == 2


@pytest.mark.parametrize("code", [401, 404])
def test_a_wrong_key_or_model_stops_at_once(endpoint: Endpoint, tmp_path: Path, code: int) -> None:
    endpoint.script = {"id0": [code] * 3}
    with pytest.raises(
        ValueError, match=rf"/v1/chat/completions answers {code} .*check Rationales\.url, model and key"
    ):
        write_rationales(settings(endpoint), tmp_path / "r.jsonl", RECORDS[:1])


def test_an_endpoint_that_is_not_there_ends_the_command(tmp_path: Path) -> None:
    config = Rationales(url="http://127.0.0.1:9/v1", model="m", attempts=2, concurrency=1)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(0.2)  # in which the error of the first record drops the last ones

    with pytest.raises(
        ConnectionError, match=r"no connection to http://127\.0\.0\.1:9/v1 in 2 attempts: start the server"
    ):
        write_rationales(config, tmp_path / "r.jsonl", RECORDS, wait)
    assert len(waits) < len(RECORDS)


def test_a_gzip_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rationales.jsonl.gz"
    path.write_bytes(content := gzip.compress(b'{"id": "id0", "rationale": "because"}\n'))
    with pytest.raises(ValueError, match=r"rationales\.jsonl\.gz is gzip data, to which no line is appended"):
        write_rationales(Rationales(by="clause"), path, RECORDS)
    assert path.read_bytes() == content


def test_a_rationale_of_another_answer_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "rationales.jsonl"
    write_rationales(Rationales(by="clause"), path, RECORDS)
    other = [record._replace(answer="no") for record in RECORDS]
    assert write_rationales(Rationales(by="clause"), path, other) == {"by the rule": 6}


def test_the_key_comes_from_the_environment(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    write_rationales(settings(endpoint, key_variable="SOME_KEY"), tmp_path / "r.jsonl", RECORDS[:1])
    assert endpoint.asked[0]["key"] == "Bearer secret" and "secret" not in (tmp_path / "r.jsonl").read_text()


def test_an_endpoint_needs_a_model() -> None:
    with pytest.raises(ValueError, match=r"Rationales\.model is empty"):
        Rationales()


def test_going_back_to_another_rule_counts(tmp_path: Path) -> None:
    path, records = tmp_path / "rationales.jsonl", [Asked(f"id{i}", f"短，大涨了吗{i}", "yes", "") for i in range(3)]
    write_rationales(Rationales(by="clause"), path, records)
    first = read_rationales(path)
    path.write_text(path.read_text() + json.dumps({"id": "id0", "key": "other", "rationale": "by another"}) + "\n")
    assert read_rationales(path)["id0"].text == "by another"
    assert write_rationales(Rationales(by="clause"), path, records)["kept from before"] == 2
    assert read_rationales(path) == first


def test_a_last_line_without_an_end_is_kept(tmp_path: Path) -> None:
    path, records = tmp_path / "rationales.jsonl", [Asked(f"id{i}", f"短，大涨了吗{i}", "yes", "") for i in range(2)]
    write_rationales(Rationales(by="clause"), path, records[:1])
    path.write_text(path.read_text().removesuffix("\n"))
    assert write_rationales(Rationales(by="clause"), path, records)["kept from before"] == 1
    assert set(read_rationales(path)) == {"id0", "id1"}


def test_a_start_that_gets_no_rationale_fails(
    endpoint: Endpoint, write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.script = {"id0": [""]}
    settings = {
        "PrepareInstructions.inputs": (str(write({"instruction": "question 0", "output": "yes"})),),
        "PrepareInstructions.output": str(tmp_path),
        "PrepareInstructions.name": "some",
        "PrepareInstructions.rationales": str(tmp_path / "rationales.jsonl"),
        "Rationales.url": endpoint.url,
        "Rationales.model": "m",
    }
    monkeypatch.setattr("sys.argv", ["rationales.py", *(f"--gin.{name}={value}" for name, value in settings.items())])
    with pytest.raises(ValueError, match="no record of 'some' got a rationale"):
        main()
    main()
    assert len(read_rationales(tmp_path / "rationales.jsonl")) == 1

    write({"instruction": "question 0", "output": "yes"}, {"instruction": "question 1", "output": "no"})
    endpoint.script = {"id1": [""]}
    main()  # one that is never answered does not fail a start where others have their rationales
    assert len(read_rationales(tmp_path / "rationales.jsonl")) == 1
