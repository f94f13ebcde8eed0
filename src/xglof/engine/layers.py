"""What comes out of the blended logits: probabilities, classes, how undecided they are.

On the CPU by SciPy's and NumPy's element-wise loops: torch's vectorised sigmoid gives other bits at the end
of an array than in its middle. A GPU computes every element by itself.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import entr, expit
from torch import Tensor

from xglof.models.spec import ModelSpec


def class_probabilities(spec: ModelSpec, logits: Tensor) -> Tensor:
    """Probability of every class, (T, K, rows, cols) float32; the values themselves for ``identity``."""
    if spec.activation == "identity":
        return logits
    if logits.is_cuda:
        return torch.sigmoid(logits) if spec.activation == "sigmoid" else torch.softmax(logits, dim=1)
    values = logits.numpy()
    if spec.activation == "sigmoid":
        return torch.from_numpy(np.asarray(expit(values), dtype=np.float32))
    shares = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True))
    shares /= _added(torch.from_numpy(shares)).numpy()[:, np.newaxis]
    return torch.from_numpy(shares.astype(np.float32))


def classes(spec: ModelSpec, logits: Tensor) -> Tensor:
    """Number of the likeliest of :attr:`Job.class_names`, (T, rows, cols) float32; the first of equals."""
    best, number = logits.max(dim=1)
    if spec.activation == "softmax":
        return number.float()
    least = 0.0 if spec.activation == "sigmoid" else 0.5
    return torch.where(best >= least, number + 1, 0).float()


def entropy(spec: ModelSpec, probabilities: Tensor) -> Tensor:
    """How undecided the classes are, (T, rows, cols) float32: Shannon's entropy, from 0 to 1 of its most.

    Where every class has a probability of its own, the mean over them of each against the rest.
    """
    each = probabilities if spec.activation == "softmax" else torch.stack([probabilities, 1 - probabilities])
    if each.is_cuda:
        parts = torch.special.entr(each)
    else:
        parts = torch.from_numpy(np.asarray(entr(each.numpy()), dtype=np.float32))
    # class by class: the order of a sum inside torch may hang on the place in the array
    if spec.activation == "softmax":
        return _added(parts) / float(np.log(parts.shape[1]))
    return _added(parts[0] + parts[1]) / (probabilities.shape[1] * float(np.log(2)))


def _added(parts: Tensor) -> Tensor:
    """Sum over the classes of (T, K, rows, cols), the first class first."""
    total = parts[:, 0]
    for number in range(1, parts.shape[1]):
        total = total + parts[:, number]
    return total


def says_lake(spec: ModelSpec, logits: Tensor) -> Tensor:
    """Whether logits (..., K, Y, X) alone would be taken for lake, (..., Y, X) bool."""
    lake = spec.classes.index("lake")
    if spec.activation == "softmax":
        return logits.argmax(dim=-3) == lake
    return logits.select(-3, lake) >= (0.0 if spec.activation == "sigmoid" else 0.5)
