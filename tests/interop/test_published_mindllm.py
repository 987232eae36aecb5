"""The layout of the published MindLLM-1.3B with all its added tokens, at a tiny width."""

import json
import random
from pathlib import Path

import numpy as np
from interop_models import gpt_neo, torch, transformers
from small_tokenizers import GPT2

import mindllm_jax
from mindllm_jax.generation.engine import generate
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.interop.import_run import import_run

ADDED = 25_000


def test_twenty_five_thousand_added_tokens(gpt2_folder: Path, tmp_path: Path) -> None:
    """Ids of 2,000 texts equal transformers', and so does a greedy answer; the weights are a bfloat16 pickle."""
    draw = random.Random(0)
    han = [chr(code) for code in range(0x4E00, 0x9FA5)]
    words = ("".join(draw.choices(han[:3000], k=draw.choice((2, 3, 4)))) for _ in range(2 * ADDED))
    added = list(dict.fromkeys([*han[:15_000], *words]))[:ADDED]
    size = len(json.loads((GPT2 / "encoder.json").read_text("utf-8")))
    ids = {piece: size + number for number, piece in enumerate(added)}
    (gpt2_folder / "added_tokens.json").write_text(json.dumps(ids), "utf-8")
    model = gpt_neo(vocab_size=size + ADDED, hidden_size=16, num_heads=2, intermediate_size=32).to(torch.bfloat16)
    model.config.architectures = ["GPTNeoForCausalLM"]
    model.config.save_pretrained(gpt2_folder)
    state = model.state_dict()
    del state["lm_head.weight"]
    torch.save(state, gpt2_folder / "pytorch_model.bin")

    import_run(gpt2_folder, tmp_path / "run", {})
    run = mindllm_jax.load(tmp_path / "run")
    assert run.tokenizer.vocab_size == run.config.vocab_size == size + ADDED and run.config.tied
    theirs = transformers.AutoTokenizer.from_pretrained(gpt2_folder)
    characters = [*han[:4000], *added[15_000:], *" \nabc,.。，1"]
    texts = ["".join(draw.choices(characters, k=draw.randint(1, 60))) for _ in range(2000)]
    expected = theirs(texts, add_special_tokens=False)["input_ids"]
    assert [row.tolist() for row in run.tokenizer.encode_batch(texts)] == expected
    prompt = torch.tensor([expected[0]])
    answer = model.float().generate(prompt, max_new_tokens=16, do_sample=False, eos_token_id=None)
    sampling = Sampling(temperature=0, max_tokens=16)
    (ours,) = generate(run.decoder, run.tokenizer, [np.array(expected[0])], sampling, stop_ids=[])
    assert ours.tokens == answer[0, prompt.shape[1] :].tolist()
