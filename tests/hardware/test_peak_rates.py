"""What devices can do, by the names that JAX gives them."""

from __future__ import annotations

import jax
import pytest
from jax.experimental import topologies

from mindllm_jax.hardware import peak_rates
from mindllm_jax.hardware.peak_rates import chip, runtime_memory
from mindllm_jax.hardware.topologies import GPUS, topology_devices


class Device:
    """A device that says how much of its memory a program may take."""

    def __init__(self, limit: int | None):
        self.limit = limit

    def memory_stats(self) -> dict[str, int] | None:
        return None if self.limit is None else {"bytes_limit": self.limit}


@pytest.mark.parametrize(
    ("name", "teraflops", "gib"),
    [
        ("TPU v4", 275, 32),
        ("TPU v5 lite", 197, 16),
        ("TPU v5e", 197, 16),
        ("TPU v5", 459, 95),
        ("TPU v5p", 459, 95),
        ("TPU v6 lite", 918, 32),
        ("TPU v6e", 918, 32),
        ("NVIDIA A100-SXM4-40GB", 312, 40),
        ("NVIDIA A100-SXM4-80GB", 312, 80),
        ("NVIDIA A100-PCIE-40GB", 312, 40),
        ("NVIDIA A100 80GB PCIe", 312, 80),
        ("NVIDIA A800-SXM4-80GB", 312, 80),
        ("NVIDIA H100 80GB HBM3", 989, 80),
        ("NVIDIA H100 PCIe", 756, 80),
        ("NVIDIA H100 NVL", 835, 94),
        ("NVIDIA H800", 989, 80),
        ("NVIDIA H20", 148, 96),
        ("NVIDIA H200", 989, 141),
        ("NVIDIA GH200 480GB", 989, 96),
        ("NVIDIA B200", 2250, 180),
        ("NVIDIA L4", 121, 24),
        ("NVIDIA L40S", 362, 48),
        ("NVIDIA GeForce RTX 4090", 165, 24),
    ],
)
def test_peak_and_memory_by_name(name: str, teraflops: int, gib: int) -> None:
    found = chip(name)
    assert found is not None
    assert (found.flops / 1e12, found.memory / 2**30) == (teraflops, gib)


@pytest.mark.parametrize(("family", "memory"), [("h100", 80), ("h200", 141)])
def test_a_step_is_compiled_for_the_memory_of_the_table(
    family: str, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets: list[str] = []

    def without_cuda(target_config: str, **_: object) -> None:
        targets.append(target_config)
        raise NotImplementedError

    monkeypatch.setattr(topologies, "get_topology_desc", without_cuda)
    topology_devices(f"{family}:1x8")
    assert f"device_memory_size: {memory * 2**30} memory_bandwidth: " in targets[0]
    assert GPUS[family] in targets[0]


@pytest.mark.parametrize(
    "name",
    [
        "cpu",
        "TPU v5 mega",
        "TPU v6",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "NVIDIA H2000",
        "NVIDIA L40",
        "NVIDIA GeForce RTX 4090 D",
    ],
)
def test_a_device_that_the_table_does_not_have_is_no_other_chip(name: str) -> None:
    assert chip(name) is None


@pytest.mark.parametrize("name", GPUS.values())
def test_described_gpus_are_known(name: str) -> None:
    assert chip(name) is not None


def test_memory_is_what_the_least_device_here_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [Device(30), Device(20), Device(None)]
    monkeypatch.setattr(peak_rates.jax, "local_devices", lambda: here)
    assert runtime_memory(here) == 20
    assert runtime_memory([here[2]]) is None
    assert runtime_memory([Device(10)]) is None, "a device of another process cannot be asked"


def test_cpus_tell_nothing() -> None:
    assert runtime_memory(jax.devices()) is None
