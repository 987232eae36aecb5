"""Estimates memory, step time and mesh of a run for a target topology, by AOT compilation.

python launch/plan.py --gin configs/pretrain/mindllm_3b.gin --gin configs/hardware/tpu.gin --topology v5p:4x4x4 \\
    --gin.Loop.global_batch_size=320 --workdir runs/plan
# topologies: v4, v5e, v5p, v6e or tpu7x with the shape of a slice (v5e:16x16);
# a100, h100 or h200 with nodes x GPUs per node (h100:8x8)
"""

from mindllm_jax import configuration


def main() -> None:
    """Prints the ranking and the details of the best configuration, and writes its settings."""
    topology = configuration.Flag("topology", "topology to plan for", "Planner.topology")
    arguments = configuration.command_line(__doc__, flags=(topology,), dry_run=False)

    import os
    import shlex

    # Leaves this machine's accelerators, if any, alone.
    os.environ["JAX_PLATFORMS"] = "cpu"
    import rich

    from mindllm_jax.files import write_text
    from mindllm_jax.planning.planner import Planner, make_plan

    config = configuration.load(Planner, arguments, {"Mixture.store": "(none)"})
    plan = make_plan(config, log=lambda line: print(line, flush=True))
    rich.print(plan.ranking().terminal())
    for estimate in plan.estimates:
        if estimate.compiled or estimate == plan.best:
            rich.print(plan.details(estimate).terminal())
    if arguments.workdir:
        path = arguments.workdir / "plan.gin"
        arguments.workdir.mkdir(parents=True, exist_ok=True)
        write_text(path, f"# {config.topology}: {plan.best.candidate.name()}\n{plan.settings(plan.best)}")
        files = (word for file in (*arguments.files, path) for word in ("--gin", str(file)))
        planned = {line.split(" = ")[0] for line in plan.settings(plan.best).splitlines()}
        others = [
            word
            for word in arguments.overrides
            if word.split("=")[0].strip() not in {*planned, "Mixture.store"} and not word.startswith("Planner.")
        ]
        settings = (f"--gin.{word}" for word in ("Mixture.store=STORE", *others))
        print(shlex.join(["python", "launch/train.py", *files, *settings, "--workdir", "RUN"]))


if __name__ == "__main__":
    configuration.run(main)
