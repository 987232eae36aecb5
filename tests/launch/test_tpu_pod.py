"""launch/tpu_pod.sh against a stand-in for gcloud: queue, preemption, failure. It shows the loop, not Google Cloud."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Each look at the queue gives the next line of $HERE/states, the last one for ever. `ssh` that trains gives the next of
# $HERE/outcomes as its status.
GCLOUD = """#!/bin/bash
next() { head -n 1 "$1"; if [ "$(wc -l < "$1")" -gt 1 ]; then sed -i 1d "$1"; fi; }
case $* in
    "config get-value project") echo some-project ;;
    *"queued-resources list"*) state=$(next "$HERE/states"); if [ "$state" = fails ]; then exit 1; fi; echo "$state" ;;
    *launch/train.py*) echo train "$*" >> "$HERE/calls"; exit "$(next "$HERE/outcomes")" ;;
    *"queued-resources create"*) echo create "$*" >> "$HERE/calls" ;;
    *"queued-resources delete"*) echo delete >> "$HERE/calls" ;;
    *"tpu-vm scp"*) echo copy >> "$HERE/calls"; exit "${COPIED:-0}" ;;
    *"tpu-vm ssh"*) echo install >> "$HERE/calls" ;;
    *) echo "unknown: $*" >&2; exit 9 ;;
esac
"""
Pod = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    """Runs the script; the queue and the outcomes of training are given."""
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("not a git checkout: the script copies a commit")
    (tmp_path / "gcloud").write_text(GCLOUD)
    (tmp_path / "gcloud").chmod(0o755)

    def run(*arguments: str, states: list[str], outcomes: list[int], **settings: str):
        (tmp_path / "states").write_text("".join(f"{state}\n" for state in states))
        (tmp_path / "outcomes").write_text("".join(f"{outcome}\n" for outcome in outcomes))
        (tmp_path / "calls").write_text("")
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HERE": str(tmp_path), "POLL": "0"}
        environment |= {"SHARE": "10.0.0.2:/share"} | settings
        return subprocess.run(
            ["launch/tpu_pod.sh", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_from_the_queue_to_the_end(pod: Pod, tmp_path: Path) -> None:
    done = pod("--gin.Loop.steps=20", states=["", "WAITING_FOR_RESOURCES", "ACTIVE"], outcomes=[0], KIND="--reserved")
    assert done.returncode == 0, done.stderr
    create, copy, install, *train = calls(tmp_path)
    assert "--accelerator-type=v5p-128 --runtime-version=v2-alpha-tpuv5 --reserved" in create
    assert "--project=some-project --zone=us-east5-a" in create
    assert (copy, install) == ("copy", "install")
    text = "\n".join(train)
    assert "--worker=all" in text
    assert "launch/train.py --gin configs/pretrain/mindllm_3b.gin --gin.Mixture.store=/data/store" in text
    assert "--workdir /data/runs/mindllm_3b --gin.Loop.steps=20" in text


def test_a_preempted_slice_is_asked_for_again_and_training_starts_again(pod: Pod, tmp_path: Path) -> None:
    states = ["ACTIVE", "SUSPENDING", "SUSPENDED", "", "PROVISIONING", "ACTIVE"]
    done = pod(states=states, outcomes=[255, 0])
    assert done.returncode == 0, done.stderr
    happened = [call.split()[0] for call in calls(tmp_path) if call.split()[0] in ("train", "delete", "create")]
    assert happened == ["train", "delete", "create", "train"]


def test_what_fails_without_preemption_ends(pod: Pod, tmp_path: Path) -> None:
    done = pod(states=["ACTIVE"], outcomes=[2], ATTEMPTS="2")
    assert done.returncode == 1
    assert [call.split()[0] for call in calls(tmp_path)].count("train") == 2
    assert "failed (2 of 2) on a slice that was not preempted" in done.stdout


def test_a_copy_that_fails_is_no_start_with_an_older_commit(pod: Pod, tmp_path: Path) -> None:
    done = pod(states=["ACTIVE"], outcomes=[0], ATTEMPTS="2", COPIED="1")
    assert done.returncode == 1 and set(calls(tmp_path)) == {"copy"}
    assert "failed (2 of 2)" in done.stdout


def test_a_queue_that_does_not_answer_is_asked_again(pod: Pod, tmp_path: Path) -> None:
    """For days, every 30 seconds; a failure is not an empty queue, for which a second slice would be asked."""
    done = pod(states=["PROVISIONING", "fails", "ACTIVE"], outcomes=[0])
    assert done.returncode == 0, done.stderr
    assert "gcloud failed; looking again" in done.stdout
    assert not any(call.startswith("create") for call in calls(tmp_path))


def test_a_gcloud_that_never_answers_ends(pod: Pod) -> None:
    """As without a login, or with a wrong project."""
    assert pod(states=["fails"], outcomes=[0]).returncode == 1


def test_without_a_share_nothing_is_asked_for(pod: Pod, tmp_path: Path) -> None:
    done = pod(states=[""], outcomes=[0], SHARE="")
    assert done.returncode == 2 and "SHARE=10.0.0.2:/share" in done.stderr
    assert calls(tmp_path) == []


def test_without_gcloud_it_says_so(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    for name in ("bash", "dirname"):
        (tmp_path / "few" / name).symlink_to(shutil.which(name) or name)
    done = pod(states=[""], outcomes=[0], PATH=str(tmp_path / "few"))
    assert done.returncode == 2 and "gcloud, Google Cloud's command line, is not installed" in done.stderr


def test_giving_back(pod: Pod, tmp_path: Path) -> None:
    done = pod("delete", states=["ACTIVE"], outcomes=[0])
    assert done.returncode == 0 and calls(tmp_path) == ["delete"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        ("queued-resources list", ["--zone", "--filter"]),
        (
            "queued-resources create",
            ["--zone", "--node-id", "--accelerator-type", "--runtime-version", "--spot", "--reserved"],
        ),
        ("queued-resources delete", ["--zone", "--force"]),
        ("tpu-vm ssh", ["--zone", "--worker", "--command"]),
        ("tpu-vm scp", ["--zone", "--worker"]),
    ],
)
def test_gcloud_itself_knows_the_flags(verb: str, flags: list[str], tmp_path: Path) -> None:
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed")
    done = subprocess.run(
        ["gcloud", "compute", "tpus", *verb.split(), "--help"],
        env=os.environ | {"CLOUDSDK_CONFIG": str(tmp_path), "PAGER": "cat"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    used = (ROOT / "launch/tpu_pod.sh").read_text()
    # Terminals show bold letters in between.
    known = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
    for flag in flags:
        assert flag in used and re.search(rf"{flag}\b", known), flag
