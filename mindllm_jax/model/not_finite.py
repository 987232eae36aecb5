"""The error of a model that computes NaN."""

CAUSE = "parameters of the model are not finite, or its activations overflow in Model.compute_dtype"


class NotFiniteError(ValueError):
    """A model computed NaN or infinity where a score or a token is needed."""

    def __init__(self, what: str):
        super().__init__(f"{what}: {CAUSE}")
