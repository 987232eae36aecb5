"""The Kubernetes files: known fields only, numbers that fit together, and a command that train.py understands."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mindllm_jax import configuration
from mindllm_jax.parallel.hosts import find_processes
from mindllm_jax.training.pretrain import Pretrain

ROOT = Path(__file__).parents[2]
FILES = sorted(ROOT.glob("launch/jobset_*.yaml"))
SCHEMA = json.loads((Path(__file__).parent / "jobset.schema.json").read_text())


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / f"launch/jobset_{name}.yaml").read_text())


def job(jobset: dict[str, Any]) -> dict[str, Any]:
    (replicated,) = jobset["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def container(jobset: dict[str, Any]) -> dict[str, Any]:
    (container,) = job(jobset)["template"]["spec"]["containers"]
    return container


def variables(jobset: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container(jobset)["env"]}


@pytest.mark.parametrize("name", ["gpu", "tpu"])
def test_fields_are_those_of_the_api(name: str) -> None:
    jsonschema.validate(read(name), SCHEMA)


def test_a_misspelt_field_is_noticed() -> None:
    jobset = read("gpu")
    job(jobset)["backofLimit"] = job(jobset).pop("backoffLimit")
    with pytest.raises(jsonschema.ValidationError, match="backofLimit"):
        jsonschema.validate(jobset, SCHEMA)


@pytest.mark.parametrize("name", ["gpu", "tpu"])
def test_the_command_is_one_that_train_takes(name: str) -> None:
    command = container(read(name))["command"]
    assert command[:3] == ["python", "-u", "launch/train.py"]
    arguments = configuration.command_line("", command[3:])
    config = configuration.load(Pretrain, arguments)
    assert config.data.store == "/data/store" and arguments.workdir == Path("/data/runs/mindllm_3b")


@pytest.mark.parametrize("devices", [16, 32, 64])
def test_the_preset_of_the_launch_files_can_be_split(devices: int) -> None:
    """Two and four nodes of 8 GPUs, and the slice of 64 chips that the TPU files ask for."""
    preset = configuration.load(Pretrain, configuration.command_line("", [
        "--gin", str(ROOT / "configs/pretrain/mindllm_3b.gin"), "--gin.Mixture.store=/data/store",
    ]))  # fmt: skip
    assert preset.loop.global_batch_size % devices == 0
    for file in (*FILES, ROOT / "launch/tpu_pod.sh", ROOT / "launch/slurm.sbatch"):
        assert "configs/pretrain/mindllm_3b.gin" in file.read_text()


@pytest.mark.parametrize("name", ["gpu", "tpu"])
def test_every_mount_has_its_volume(name: str) -> None:
    pod = job(read(name))["template"]["spec"]
    assert {m["name"] for m in container(read(name))["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


def test_gpu_pods_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names in the file are those that JobSet gives: <jobset>-<job>-<replica>-<pod>.<jobset>."""
    jobset = read("gpu")
    count = job(jobset)["completions"]
    assert job(jobset)["parallelism"] == count
    for name, value in variables(jobset).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", str(count - 1))
    group = find_processes()
    assert group is not None and group.index == count - 1
    base, network = jobset["metadata"]["name"], jobset["spec"]["network"]
    assert network["enableDNSHostnames"] and "subdomain" not in network
    pods = [f"{base}-{jobset['spec']['replicatedJobs'][0]['name']}-0-{index}" for index in range(count)]
    assert list(group.hosts) == pods
    host, _, port = group.address.partition(":")
    assert host == f"{pods[0]}.{base}"
    assert {"containerPort": int(port)} in container(jobset)["ports"]


def test_tpu_hosts_cover_the_topology() -> None:
    jobset = read("tpu")
    topology = job(jobset)["template"]["spec"]["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = math.prod(map(int, topology.split("x")))
    a_host = container(jobset)["resources"]["limits"]["google.com/tpu"]
    assert job(jobset)["parallelism"] == job(jobset)["completions"] == chips // a_host


@pytest.mark.parametrize("name", ["gpu", "tpu"])
def test_pods_that_stop_with_an_evicted_one_are_a_disruption(name: str) -> None:
    """A signal to one process stops all, which end with 130 once they are saved."""
    jobset = read(name)
    ignored = [rule for rule in jobset["spec"]["failurePolicy"]["rules"] if "IgnoreMaxRestarts" in rule["action"]]
    assert [rule["onJobFailureReasons"] for rule in ignored] == [["PodFailurePolicy"]]
    codes = [rule["onExitCodes"] for rule in job(jobset)["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert codes == [{"containerName": container(jobset)["name"], "operator": "In", "values": [130]}]
