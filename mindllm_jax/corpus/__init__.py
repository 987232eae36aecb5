"""Raw text to clean documents: a pipeline of datatrove steps. Its settings need none of its packages; no jax."""
