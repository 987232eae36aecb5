"""All stages of deduplication through datatrove's executor."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.dedup.exact_dedup import ExactDedupSignature, ExactFindDedups
from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

from mindllm_jax.corpus.dedup.cluster import Cluster
from mindllm_jax.corpus.dedup.exact import DropCopies, exact_config
from mindllm_jax.corpus.dedup.lines import CountLines, DropRepeats, FindRepeats
from mindllm_jax.corpus.dedup.minhash import Signatures, stock_config
from mindllm_jax.corpus.dedup.near import DropNearDuplicates
from mindllm_jax.corpus.settings import MinHash, Repeats

SHARDS = 2


def write_corpus(folder: Path) -> None:
    """Chinese and English texts of random characters and words, with an exact copy, an edited one and boilerplate."""
    random = np.random.default_rng(0)
    han = [chr(0x4E00 + number) for number in range(2000)]
    latin = ["".join(letters) for letters in random.choice(list("abcdefghijkl"), (2000, 6))]
    rows = [(f"zh{n}", "".join(random.choice(han, 300))) for n in range(8)]
    rows += [(f"en{n}", "Home\nAbout us\n\n" + " ".join(random.choice(latin, 200))) for n in range(8)]
    rows += [("exact", rows[0][1]), ("edited", f"{rows[1][1][:150]}龘{rows[1][1][151:]}")]
    rows += [("shorter", rows[8][1][:-30])]
    folder.mkdir(parents=True)
    for shard in range(SHARDS):
        with open(folder / f"{shard}.jsonl", "w", encoding="utf-8") as file:
            for id, text in rows[shard::SHARDS]:
                file.write(json.dumps({"id": id, "text": text, "metadata": {"source": id[:2]}}) + "\n")


def run(folder: Path, workers: int) -> list[dict[str, str]]:
    """What is left, by shard: texts by id."""
    repeats, minhash, exact = Repeats(min_site_documents=3), MinHash(buckets=8), exact_config()

    def execute(name: str, steps: list[Any], tasks: int = SHARDS) -> None:
        LocalPipelineExecutor(steps, tasks, workers=min(workers, tasks), logging_dir=f"{folder}/logs/{name}").run()

    def read(stage: str) -> Any:
        return JsonlReader(f"{folder}/{stage}")

    def write(stage: str) -> Any:
        return JsonlWriter(f"{folder}/{stage}", output_filename="${rank}.jsonl", compression=None)

    write_corpus(folder / "text")
    execute("1", [read("text"), ExactDedupSignature(f"{folder}/exact", config=exact)])
    execute("2", [ExactFindDedups(f"{folder}/exact", f"{folder}/copies", config=exact)], 1)
    execute("3", [read("text"), DropCopies(f"{folder}/copies"), write("once")])
    execute("4", [read("once"), CountLines(f"{folder}/counted", repeats)])
    execute("5", [FindRepeats(f"{folder}/counted", f"{folder}/repeats", repeats)], repeats.partitions)
    execute("6", [read("once"), DropRepeats(f"{folder}/repeats", repeats), write("lines")])
    execute("7", [read("lines"), Signatures(f"{folder}/signatures", minhash)])
    stock = stock_config(minhash)
    buckets = MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/pairs", config=stock)
    execute("8", [buckets], minhash.buckets)
    execute("9", [Cluster(f"{folder}/pairs", f"{folder}/signatures", f"{folder}/near", minhash)], 1)
    execute("10", [read("lines"), DropNearDuplicates(f"{folder}/near"), write("left")])
    files = sorted((folder / "left").glob("*.jsonl"))
    rows = [[json.loads(line) for line in file.read_text("utf-8").splitlines()] for file in files]
    return [{row["id"]: row["text"] for row in shard} for shard in rows]


@pytest.mark.long
def test_all_stages_with_one_and_two_workers(tmp_path: Path) -> None:
    one, two = (run(tmp_path / str(workers), workers) for workers in (1, 2))
    assert one == two and len(one) == SHARDS
    left = one[0] | one[1]
    assert set(left) == {f"{lang}{n}" for lang in ("zh", "en") for n in range(8)}
    assert not any("About us" in text for text in left.values())
