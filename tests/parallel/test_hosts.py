"""The processes of a run, from the launchers' variables and the metadata server."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from mindllm_jax.parallel import hosts
from mindllm_jax.parallel.hosts import ProcessGroup, expand_nodes, find_processes


def given(monkeypatch: pytest.MonkeyPatch, **variables: str) -> ProcessGroup | None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return find_processes()


def test_without_variables_there_is_one_process() -> None:
    assert find_processes() is None


def test_local_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    group = given(monkeypatch, MINDLLM_COORDINATOR="127.0.0.1:1234", MINDLLM_PROCESSES="3", MINDLLM_PROCESS="1")
    assert group == ProcessGroup("127.0.0.1:1234", 1, (socket.gethostname(),) * 3)


def test_own_variables_on_several_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    group = given(monkeypatch, MINDLLM_COORDINATOR="a:1234", MINDLLM_PROCESSES="2", MINDLLM_PROCESS="1")
    assert group == ProcessGroup("a:1234", 1, ("", ""))


def test_kubernetes_names_its_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    group = given(
        monkeypatch,
        MINDLLM_COORDINATOR="mindllm-worker-0-0.mindllm:8482",
        MINDLLM_PROCESSES="3",
        JOB_COMPLETION_INDEX="2",
    )
    names = ("mindllm-worker-0-0", "mindllm-worker-0-1", "mindllm-worker-0-2")
    assert group == ProcessGroup("mindllm-worker-0-0.mindllm:8482", 2, names)


def test_slurm_with_several_tasks_on_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    step = {"SLURM_STEP_NODELIST": "gpu[09-10],big", "SLURM_STEP_TASKS_PER_NODE": "2(x2),1"}
    group = given(monkeypatch, SLURM_JOB_ID="4097", SLURM_PROCID="4", **step)
    assert group == ProcessGroup("gpu09:61441", 4, ("gpu09", "gpu09", "gpu10", "gpu10", "big"))


def test_a_slurm_batch_script_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert given(monkeypatch, SLURM_JOB_ID="7", SLURM_PROCID="0", SLURM_JOB_NODELIST="a[1-2]", SLURM_NTASKS="2") is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ["a"]),
        ("a,b-1", ["a", "b-1"]),
        ("a[1-3]", ["a1", "a2", "a3"]),
        ("a[008-010,2]x,b", ["a008x", "a009x", "a010x", "a2x", "b"]),
        ("r[1-2]n[3-4]", ["r1n3", "r1n4", "r2n3", "r2n4"]),
    ],
)
def test_expanding_nodes(text: str, names: list[str]) -> None:
    assert expand_nodes(text) == names


def test_one_slice_under_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    group = given(monkeypatch, TPU_WORKER_HOSTNAMES="a.x,b.x", TPU_WORKER_ID="1", JOB_COMPLETION_INDEX="1")
    assert group == ProcessGroup("a.x:8482", 1, ("a.x", "b.x"))


def test_several_slices_under_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    several = {"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "1", "MEGASCALE_COORDINATOR_ADDRESS": "a.x:8080"}
    group = given(monkeypatch, TPU_WORKER_HOSTNAMES="c.x,d.x", TPU_WORKER_ID="1", **several)
    assert group == ProcessGroup("a.x:8482", 3, ("", "", "c.x", "d.x"))


def test_one_tpu_host_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert given(monkeypatch, TPU_WORKER_HOSTNAMES="localhost", TPU_WORKER_ID="0") is None
    assert given(monkeypatch, TPU_WORKER_HOSTNAMES="localhost") is None


@pytest.fixture
def tpu_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A metadata server on this machine, which seems to have a TPU; gives the attributes that it serves."""
    attributes = dict[str, str]()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            known = name in attributes and self.headers["Metadata-Flavor"] == "Google"
            self.send_response(int(attributes.get("status", 200 if known else 404)))
            self.end_headers()
            if known:
                self.wfile.write(attributes[name].encode())

        def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{server.server_port}")
        monkeypatch.delenv("TPU_SKIP_MDS_QUERY", raising=False)
        monkeypatch.setattr(hosts, "_has_chips", lambda: True)
        yield attributes
        server.shutdown()


def test_a_pod_of_tpu_machines(tpu_machine: dict[str, str]) -> None:
    tpu_machine["worker-network-endpoints"] = "unknown:unknown:10.0.0.5,unknown:unknown:10.0.0.6"
    tpu_machine["agent-worker-number"] = "1"
    tpu_machine["tpu-env"] = "ACCELERATOR_TYPE: 'v5p-16'\nWORKER_ID: '1'\n"
    assert find_processes() == ProcessGroup("10.0.0.5:8482", 1, ("10.0.0.5", "10.0.0.6"))


def test_several_pods_of_tpu_machines(tpu_machine: dict[str, str]) -> None:
    tpu_machine["worker-network-endpoints"] = "host-c,host-d"
    tpu_machine["agent-worker-number"] = "0"
    tpu_machine["tpu-env"] = (
        "MEGASCALE_COORDINATOR_ADDRESS: 'host-a:8080'\nMEGASCALE_NUM_SLICES: '2'\nMEGASCALE_SLICE_ID: '1'\n"
    )
    assert find_processes() == ProcessGroup("host-a:8482", 2, ("", "", "host-c", "host-d"))


def test_a_tpu_machine_without_a_pod_is_alone(tpu_machine: dict[str, str]) -> None:
    assert find_processes() is None


def test_a_metadata_server_that_is_overloaded_is_no_machine_alone(tpu_machine: dict[str, str]) -> None:
    """Alone it would wait in libtpu for the other hosts of its pod."""
    tpu_machine["status"] = "503"
    with pytest.raises(OSError, match=r"its pod is unknown, because .* failed: HTTP Error 503"):
        find_processes()


def test_a_metadata_server_that_is_silent(tpu_machine: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCE_METADATA_IP", "127.0.0.1:9")
    with pytest.raises(OSError, match=r"its pod is unknown, because .*; TPU_SKIP_MDS_QUERY=1 uses this machine alone"):
        find_processes()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MINDLLM_COORDINATOR": "a:1"}, r"MINDLLM_PROCESSES = \(not set\): it must be a number"),
        (
            {"MINDLLM_COORDINATOR": "a:1", "MINDLLM_PROCESSES": "2"},
            r"MINDLLM_PROCESS = \(not set\): it must be a number",
        ),
        (
            {"MINDLLM_COORDINATOR": "a:1", "MINDLLM_PROCESSES": "2", "MINDLLM_PROCESS": "2"},
            "this is process 2 of 2: processes are numbered 0 to 1",
        ),
        (
            {"MINDLLM_COORDINATOR": "a:1", "MINDLLM_PROCESSES": "0", "MINDLLM_PROCESS": "0"},
            "MINDLLM_PROCESSES = 0: it must be at least 1",
        ),
        (
            {"MINDLLM_COORDINATOR": "a", "MINDLLM_PROCESSES": "2", "MINDLLM_PROCESS": "0"},
            "MINDLLM_COORDINATOR = a: give",
        ),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, r"TPU_WORKER_ID = \(not set\): it must be a number"),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "x"}, "MEGASCALE_NUM_SLICES = x: it must be a number"),
        ({"SLURM_STEP_NODELIST": "a[1-2]", "SLURM_PROCID": "1"}, "SLURM_STEP_TASKS_PER_NODE is not: start the"),
    ],
)
def test_invalid_variables_raise(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        given(monkeypatch, **variables)
