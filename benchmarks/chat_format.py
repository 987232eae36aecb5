"""Measures conversations/s from messages to token ids and loss mask, beside transformers' apply_chat_template.

python benchmarks/chat_format.py --tokenizer FILE --instructions FILE.jsonl [--conversations 5000] [--repeats 5]

`texts alone` encodes the contents of the messages, each by itself and nothing around them: no format is faster. The
peer has the exported tokenizer and the same conversations; ids and masks are compared first. Every figure is the best
of --repeats; they alternate. Prints a table and JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import islice
from pathlib import Path


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--instructions", type=Path, required=True)
    parser.add_argument("--conversations", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    from transformers import AutoTokenizer

    from mindllm_jax.batching.chat_format import encode_conversations
    from mindllm_jax.files import write_text
    from mindllm_jax.instruct.conversations import read_conversations
    from mindllm_jax.interop.tokenizer import hugging_face_files
    from mindllm_jax.reporting.tables import Table
    from mindllm_jax.tokenization.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(arguments.tokenizer)
    read = islice(read_conversations(arguments.instructions), arguments.conversations)
    conversations = [conversation.messages for conversation in read]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in hugging_face_files(tokenizer).items():
            write_text(Path(folder) / name, content)
        peer = AutoTokenizer.from_pretrained(folder)
    plain = [[message._asdict() for message in messages] for messages in conversations]

    def theirs() -> dict[str, list[list[int]]]:
        return peer.apply_chat_template(plain, return_dict=True, return_assistant_tokens_mask=True)

    calls = {
        "texts alone": lambda: tokenizer.encode_batch([text for one in conversations for _, text in one]),
        "ours": lambda: encode_conversations(tokenizer, conversations),
        "transformers": theirs,
    }
    ours, others = encode_conversations(tokenizer, conversations), theirs()
    same = [one.ids.tolist() == ids for one, ids in zip(ours, others["input_ids"], strict=True)]
    masks = zip(ours, others["assistant_masks"], strict=True)
    same = [equal and one.loss_mask.tolist() == mask for equal, (one, mask) in zip(same, masks, strict=True)]
    seconds = dict.fromkeys(calls, float("inf"))
    for _ in range(arguments.repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    tokens = sum(len(one.ids) for one in ours)
    columns = ("what", "seconds", "conversations/s", "times texts alone")
    rows = [
        (name, round(best, 3), round(len(conversations) / best), round(best / seconds["texts alone"], 2))
        for name, best in seconds.items()
    ]
    caption = f"{len(conversations):,} conversations, {tokens:,} tokens; ids and masks equal in {sum(same):,}"
    print(Table(columns, rows, caption).markdown())
    print(json.dumps({"lines": [dict(zip(columns, row, strict=True)) for row in rows], "equal": sum(same)}))


if __name__ == "__main__":
    main()
