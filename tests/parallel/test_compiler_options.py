"""Options that the compiler rejects are named before anything long is compiled."""

from typing import Any

import pytest

from mindllm_jax.model.config import Model
from mindllm_jax.parallel.compiler_options import check_compiler_options
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.run_spec import Loop, run_spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"xla_nonsense": True},
            r"Loop\.compiler_options: rejected by the compiler for cpu: No such compile option: 'xla_nons",
        ),
        ({"xla_cpu_enable_fast_math": "perhaps"}, r"setting option xla_cpu_enable_fast_math, 'perhaps' is not a valid"),
    ],
)
def test_options_that_the_compiler_does_not_take(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_compiler_options(options, MeshAxes().build())


def test_options_that_it_takes() -> None:
    check_compiler_options({}, MeshAxes().build())
    check_compiler_options({"xla_cpu_enable_fast_math": False}, MeshAxes().build())


def test_the_training_step_is_not_made_with_an_unknown_option() -> None:
    loop = Loop(compiler_options={"xla_nonsense": 1})
    model = Model(vocab_size=64, layers=1, width=8, heads=1, head_dim=8, mlp_dim=8, max_seq_len=8)
    run = run_spec(model, loop, Optimizer(), MeshAxes(), 8)
    with pytest.raises(ValueError, match="xla_nonsense"):
        run.compiled_step()
