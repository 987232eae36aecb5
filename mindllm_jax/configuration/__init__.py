"""Command line and gin files for every entry point; the only place that knows gin.

An entry point hands over its root dataclass. Every dataclass in the tree of its type hints becomes configurable by its
class name (`Optimizer.peak_learning_rate = 3e-4`), every dataclass-typed field is bound to its class, so that no nested
value can be ignored, and what was written is held against the type hints before anything is built. One file may serve
several entry points: a binding that belongs to another entry point's dataclass is accepted and listed as not used here.
"""

from mindllm_jax.configuration.arguments import Arguments as Arguments
from mindllm_jax.configuration.arguments import Flag as Flag
from mindllm_jax.configuration.arguments import command_line as command_line
from mindllm_jax.configuration.loading import gin_texts as gin_texts
from mindllm_jax.configuration.loading import load as load
from mindllm_jax.configuration.schema import from_json as from_json
from mindllm_jax.process import run as run
