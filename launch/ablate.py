"""Runs an ablation suite: variants times seeds, then tables, plots, a page and the ledger of claims.

python launch/ablate.py --gin configs/ablations/strategy.gin --workdir runs/ablations
python launch/ablate.py --gin configs/ablations/strategy.gin --tables
python launch/ablate.py --gin configs/ablations/strategy.gin --dry_run

A finished run leaves a record in docs/results/runs and is not run again; the same command resumes what was cut.
Several processes with the same workdir share the runs.
"""

from mindllm_jax import configuration

TABLES = configuration.Flag("tables", "rebuild tables, plots and pages from the records, without training")


def main() -> None:
    """Prints the plan, trains what has no record, and writes the results."""
    arguments = configuration.command_line(__doc__, flags=(TABLES,))

    import rich

    from mindllm_jax.ablations.command import (
        plan_table,
        require_of_suite,
        require_own_table,
        write_results,
    )
    from mindllm_jax.ablations.plan import suite_runs
    from mindllm_jax.ablations.runner import run_missing
    from mindllm_jax.ablations.suite import Suite
    from mindllm_jax.parallel.startup import start

    bindings = configuration.read(Suite, arguments)
    suite = configuration.load(Suite, arguments, bindings=bindings)
    require_of_suite(suite, bindings)
    if arguments.accept_changes:
        raise ValueError("--accept_changes is of single runs: with other settings a suite has other runs; leave it out")
    name = arguments.files[0].stem if arguments.files else "suite"
    start()
    tables = "tables" in arguments.switches
    runs = suite_runs(suite, data=not tables)
    if not tables:
        rich.print(plan_table(suite, runs))
    if arguments.dry_run:
        return
    if not tables:
        if arguments.workdir is None:
            raise ValueError("give the folder of the runs as --workdir DIR")
        require_own_table(suite, name, runs)
        if others := run_missing(suite, runs, arguments.workdir, lambda line: print(line, flush=True)):
            trained = "; ".join(f"{run.variant}, seed {run.seed}" for run in others)
            print(f"other processes still train {trained}: the last one of this suite writes the tables")
            return
    print(*write_results(suite, name, runs), sep="\n")


if __name__ == "__main__":
    configuration.run(main)
