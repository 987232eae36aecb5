"""Asks an OpenAI-compatible endpoint why each record of a domain has its label; the same command resumes.

The rationales are kept in PrepareInstructions.rationales, and a record without a usable reply stays without one.

python launch/rationales.py --gin configs/sft/finance.gin --gin.Rationales.url=http://127.0.0.1:8000/v1 \\
    --gin.Rationales.model=NAME
"""

from mindllm_jax import configuration


def main() -> None:
    """Asks and prints counts of the replies, or prints the number of records with --dry_run."""
    arguments = configuration.command_line(__doc__)
    from collections import Counter
    from pathlib import Path

    import rich

    from mindllm_jax.instruct.domains.ask import AskRationales, rationales_table
    from mindllm_jax.instruct.domains.prepare import asked_records
    from mindllm_jax.instruct.domains.rationales import write_rationales

    config = configuration.load(AskRationales, arguments)
    left_out = Counter[str]()
    records = list(asked_records(config.domain, left_out))
    if arguments.dry_run:
        print(
            f"{len(records)} records, {config.rationales.concurrency} requests at a time, to {config.domain.rationales}"
        )
        return
    counts = write_rationales(config.rationales, Path(config.domain.rationales), records)
    rich.print(rationales_table(counts, left_out).terminal())
    if counts["without a rationale"] and not any(
        counts[one] for one in ("answered", "by the rule", "kept from before")
    ):
        raise ValueError(f"no record of {config.domain.name!r} got a rationale: the table above counts the reasons")


if __name__ == "__main__":
    configuration.run(main)
