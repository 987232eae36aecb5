"""Prints an environment report: versions, devices, kernels that run and obstacles of the others, disk and memory.

python launch/doctor.py
"""

from mindllm_jax import configuration


def main() -> None:
    """Prints the four tables."""
    configuration.without_settings(__doc__)

    import os
    import platform
    import shutil

    import jax
    import rich

    from mindllm_jax.hardware.peak_rates import chip, runtime_memory
    from mindllm_jax.kernels import flash_attention, linear_cross_entropy
    from mindllm_jax.parallel.startup import check_platforms
    from mindllm_jax.reporting.tables import Cell, Table
    from mindllm_jax.run_records import versions

    check_platforms()
    installed = {"python": platform.python_version(), **versions()}
    rich.print(Table(("package", "version"), list(installed.items())).terminal())

    rows: list[tuple[Cell, ...]] = []
    for device in jax.devices():
        known = chip(device.device_kind)
        memory = runtime_memory([device]) or (known and known.memory)
        rows.append((str(device), device.device_kind, known and known.flops / 1e12, memory and memory / 2**30))
    rich.print(Table(("device", "kind", "dense bfloat16 TFLOP/s", "memory GiB"), rows).terminal())

    rows = []
    for kernel in (flash_attention, linear_cross_entropy):
        for name, entry in kernel.IMPLEMENTATIONS.items():
            obstacles = entry.capabilities.obstacles(
                platform=jax.default_backend(), dtype="bfloat16", features=frozenset[str]()
            )
            rows.append((kernel.__name__.rpartition(".")[2], name, not obstacles, "; ".join(obstacles)))
    rich.print(Table(("kernel", "implementation", "runs", "obstacles"), rows).terminal())

    disk = shutil.disk_usage(".")
    rows = [("CPUs", os.cpu_count()), ("free disk in this folder, GiB", disk.free / 2**30)]
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        rows.append(("free memory, GiB", os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30))
    rich.print(Table(("machine", ""), rows).terminal())


if __name__ == "__main__":
    configuration.run(main)
