"""Collects source files as documents of the language `code`, without copies, tables and files that are not UTF-8.

python launch/collect_code.py --gin configs/data/code.gin
python launch/collect_code.py --gin.CollectCode.folders="{'tools': 'DIR'}" --gin.CollectCode.output=runs/code
"""

from mindllm_jax import configuration


def main() -> None:
    """Writes a file per source and prints what was kept and what was left out."""
    arguments = configuration.command_line(__doc__, dry_run=False)
    import rich

    from mindllm_jax.corpus.source_code import CollectCode, collect_code, collected_table

    config = configuration.load(CollectCode, arguments)
    rich.print(collected_table(collect_code(config)).terminal())


if __name__ == "__main__":
    configuration.run(main)
