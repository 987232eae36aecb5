"""Command line and gin files of every entry point; the only package that imports gin.

An entry point passes its root dataclass. Every dataclass in the tree of its type hints becomes configurable by its
class name (`Optimizer.peak_learning_rate = 3e-4`), and every dataclass-typed field is bound to its class, so that no
nested value is ignored. Bindings are checked against the type hints before anything is built. One file may serve
several entry points: a binding of another entry point's dataclass is accepted and listed as unused.
"""

from mindllm_jax.configuration.arguments import Arguments as Arguments
from mindllm_jax.configuration.arguments import Flag as Flag
from mindllm_jax.configuration.arguments import command_line as command_line
from mindllm_jax.configuration.arguments import without_settings as without_settings
from mindllm_jax.configuration.loading import gin_texts as gin_texts
from mindllm_jax.configuration.loading import load as load
from mindllm_jax.configuration.loading import read as read
from mindllm_jax.configuration.schema import from_json as from_json
from mindllm_jax.process import run as run
