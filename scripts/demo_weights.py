"""Put trained weights of ``terramind-tiny-demo`` into the package, in half precision.

::

    python scripts/demo_weights.py runs/terramind-tiny-demo/average

It prints the SHA-256 that belongs into ``xglof/models/registry.py`` and the model card.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import xglof

TARGET = Path(xglof.__file__).parent / "models" / "data" / "terramind-tiny-demo.safetensors"


def write_weights(model: Path) -> str:
    """Write the floating-point tensors of a model folder in half precision; the SHA-256 of the file."""
    tensors = {
        name: tensor.to(torch.float16) if tensor.is_floating_point() else tensor
        for name, tensor in load_file(model / "weights.safetensors").items()
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise SystemExit(f"{name} does not fit in half precision")
    part = TARGET.with_suffix(".part")
    save_file(tensors, part, metadata={"trained_on": "simulated valleys (xglof.simulate)"})
    part.replace(TARGET)
    return hashlib.sha256(TARGET.read_bytes()).hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Put weights of terramind-tiny-demo into the package.")
    parser.add_argument("model", type=Path, help="model folder that a training wrote")
    print(write_weights(parser.parse_args().model))
