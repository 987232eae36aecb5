"""Builds the corpus of the demo (Chinese statutes, a novel, an English encyclopaedia), with instructions and a task.

python launch/demo_corpus.py
python launch/demo_corpus.py --gin.DemoCorpus.text=folder-of-jsonl --gin.DemoCorpus.directory=runs/mine/corpus
"""

from mindllm_jax import configuration


def main() -> None:
    """Builds the corpus, if it is missing, and prints its sources."""
    arguments = configuration.command_line(__doc__, dry_run=False)
    import rich

    from mindllm_jax.recipes.demo.corpus import DemoCorpus, build

    config = configuration.load(DemoCorpus, arguments)
    rich.print(build(config).terminal())


if __name__ == "__main__":
    configuration.run(main)
