"""Computes the likelihoods of queries on all devices of all processes: likelihoods_on_mesh.py IN.json OUT.json.

IN.json holds a model's settings and its queries. Process 0 writes the log-likelihoods.
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax

from mindllm_jax.evaluation.likelihood import Query, likelihoods
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.parallel.startup import start
from mindllm_jax.training.state import abstract_model, initial_params


def main() -> None:
    start()
    asked = json.loads(Path(sys.argv[1]).read_text())
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in asked["model"].items()
    }
    model = Model(**settings)
    abstract = abstract_model(model, Sharding(MeshAxes(fsdp=2).build(jax.devices())))
    decoder = abstract.decoder(initial_params(model, abstract, seed=0))
    answers = likelihoods(decoder, [Query(*query) for query in asked["queries"]], batch_size=6)
    if jax.process_index() == 0:
        Path(sys.argv[2]).write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
