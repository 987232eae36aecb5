"""Writes what a run answers to fixed questions, greedily, so that a reader can judge it.

python benchmarks/transcripts.py --run RUN [--tokens 96] [--markdown FILE]

English and Chinese questions, a conversation of two questions, one with a system message, arithmetic and code; every
answer is shown, good or bad.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

CONVERSATIONS = (
    ("What is a glacier?",),
    ("Why is the sky blue?",),
    ("Translate into French: The cat sleeps on the warm stone.",),
    ("What is 17 plus 25?",),
    ("Write a Python function that returns the largest of three numbers.",),
    ("Name three rivers in Europe.", "Which of them is the longest?"),
    ("Write one sentence about autumn.",),
    ("法国的首都是哪里？",),
    ("请用中文写一句关于秋天的话。",),
    ("Translate into English: 我喜欢读书。",),
)
SYSTEM = ("Answer in one short sentence.", "What does a compiler do?")


def main() -> None:
    """Asks all questions, prints and writes the answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--tokens", type=int, default=96, help="most new tokens of an answer")
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()

    from mindllm_jax.batching.chat_format import encode_prompt
    from mindllm_jax.batching.chat_template import Message
    from mindllm_jax.files import write_text
    from mindllm_jax.generation.engine import generate
    from mindllm_jax.generation.sampling import Sampling
    from mindllm_jax.run_records import git_sha
    from mindllm_jax.training.load_run import load_decoder

    run = load_decoder(arguments.run)
    sampling = Sampling(temperature=0.0, max_tokens=arguments.tokens)

    def answer(messages: list[Message]) -> str:
        prompt = encode_prompt(run.tokenizer, messages)
        (completion,) = generate(run.decoder, run.tokenizer, [prompt], sampling, stop_ids=run.tokenizer.ends)
        return completion.text.strip() + ("" if completion.finish == "end" else " […]")

    command = f"python benchmarks/transcripts.py --run {arguments.run} --markdown {arguments.markdown}"
    lines = [
        f"# Transcripts of {arguments.run.name}",
        f"Rebuilt by `{command}`; greedy, at most {arguments.tokens} tokens ([…]: cut there); every answer is shown. "
        f"{date.today()}, commit {git_sha()}.",
    ]
    for number, questions in enumerate([*CONVERSATIONS, SYSTEM[1:]]):
        messages = [Message("system", SYSTEM[0])] if number == len(CONVERSATIONS) else []
        lines += [f"**system**: {message.content}" for message in messages]
        for question in questions:
            messages.append(Message("user", question))
            messages.append(Message("assistant", answer(messages)))
            said = "\n".join(f"> {line}".rstrip() for line in messages[-1].content.splitlines())
            lines += [f"**user**: {question}", said]
            print("\n\n".join(lines[-2:]), flush=True)
        lines.append("---")
    if arguments.markdown:
        write_text(arguments.markdown, "\n\n".join(lines[:-1]) + "\n")


if __name__ == "__main__":
    main()
