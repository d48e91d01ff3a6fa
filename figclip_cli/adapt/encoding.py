"""Features of a batch with gradients, in as little memory as asked for.

The contrastive loss needs the features of all frames at once, but not their activations. With several parts, each is
encoded without keeping activations, the loss is computed and differentiated down to the features, and then each part
is encoded again with activations and sent its share of the gradient. Loss and gradients are those of one large batch
(the cached step of GradCache, arXiv 2101.06983). The last part keeps its activations from the first time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Encode = Callable[[Tensor], Tensor]


class PartwiseFeatures:
    """Features of inputs that are encoded in parts.

    Args:
        encode: Turns (n, ...) inputs into (n, D) features.
        inputs: (N, ...) all of this process's inputs.
        parts: How many parts; 1 encodes all at once and keeps everything.
        seed: Gives each part a seed, so that dropout draws the same numbers both times; None where nothing is drawn.
        trained: Whether anything in ``encode`` is; if not, the features have no gradient and cost none.

    Attributes:
        features: (N, D) float32, to compute a loss from.
    """

    def __init__(
        self, encode: Encode, inputs: Tensor, *, parts: int, seed: Callable[[int], int] | None, trained: bool = True
    ) -> None:
        self._encode = encode
        self._inputs = [part for part in inputs.chunk(max(1, parts)) if len(part)] or [inputs]
        self._seed = seed
        self._leaves: list[Tensor] = []
        last = len(self._inputs) - 1
        with torch.no_grad():
            encoded = [self._encode_part(number) for number in range(last + (not trained))]
        if trained:
            self._leaves = [features.requires_grad_() for features in encoded]
            encoded.append(self._encode_part(last))
        self.features = torch.cat(encoded)

    def _encode_part(self, number: int) -> Tensor:
        if self._seed is not None:
            torch.manual_seed(self._seed(number))
        return self._encode(self._inputs[number]).float()

    def backward(self) -> None:
        """Send the features' gradients into the weights; call it after the loss's own ``backward``."""
        for number, leaf in enumerate(self._leaves):
            if leaf.grad is not None:
                features = self._encode_part(number)
                if features.requires_grad:
                    features.backward(leaf.grad)
