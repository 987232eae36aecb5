"""Documents before they are tokens: reading, splitting, and the corpus of the demo. Knows nothing of jax."""
