"""Checks numerics and measures speed on an NVIDIA GPU: kernels, attention, steps of the presets, a training run.

python launch/hardware_check.py --workdir runs/hardware_check [--gin.HardwareCheck.store=STORE] [--dry_run]
`make gpu` installs first; HERE=1 after it (--gin.HardwareCheck.here=True) tries every command at toy size on the CPU.

Every step is a benchmark with a time limit, whose result is written when it ends; the same command resumes with the
missing ones. --dry_run prints what each step needs. The workdir gets page.html and lines.md, the rows for
docs/results/hardware.md. See docs/gpu.md.
"""

import sys

from mindllm_jax import configuration


def main() -> None:
    """Runs the steps, or lists them."""
    arguments = configuration.command_line(__doc__)

    from dataclasses import replace
    from pathlib import Path

    import rich

    from mindllm_jax.checks import local_path
    from mindllm_jax.recipes.hardware_check.page import aim_rows, write_results
    from mindllm_jax.recipes.hardware_check.runner import result, run_steps
    from mindllm_jax.recipes.hardware_check.steps import HardwareCheck, listing, steps
    from mindllm_jax.reporting.tables import Table

    config = configuration.load(HardwareCheck, arguments)
    if config.store:  # benchmarks run in the project's folder
        config = replace(config, store=str(local_path("HardwareCheck.store", config.store).resolve()))
    if arguments.dry_run:
        rich.print(listing(config, Path("WORKDIR")).terminal())
        return
    if arguments.workdir is None:
        raise ValueError("give a folder for the results as --workdir DIR")
    workdir = arguments.workdir.resolve()
    complete = run_steps(config, workdir, lambda line: print(line, flush=True), lambda: write_results(config, workdir))
    results = {step.name: result(workdir, step.name) for step in steps(config, workdir)}
    rich.print(Table(("aim", "bound", "measured", ""), list(aim_rows(results))).terminal())
    print(f"page: {workdir / 'page.html'}; rows for docs/results/hardware.md: {workdir / 'lines.md'}")
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    configuration.run(main)
