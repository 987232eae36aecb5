"""Converts published benchmarks to local data of lm-evaluation-harness's tasks, in WORKDIR.

A benchmark whose folder is missing in the source is listed; name benchmarks to require them.
python launch/prepare_benchmarks.py --gin.PrepareBenchmarks.source=DIR --workdir runs/benchmarks
python launch/eval.py --gin.Evaluate.data=runs/benchmarks --gin.Evaluate.tasks="('cmmlu', 'piqa')" …
"""

from mindllm_jax import configuration


def main() -> None:
    """Writes the data and prints data sets and items per benchmark; with --dry_run it only prints."""
    arguments = configuration.command_line(__doc__)
    import rich

    from mindllm_jax.evaluation.benchmarks.convert import PrepareBenchmarks, convert, write
    from mindllm_jax.run_records import check_records, write_records

    config = configuration.load(PrepareBenchmarks, arguments)
    workdir = None if arguments.dry_run else check_records(config, arguments)
    converted = convert(config)
    if workdir:
        write(converted, workdir)
        write_records(config, workdir)
    rich.print(converted.table().terminal())


if __name__ == "__main__":
    configuration.run(main)
