"""Golden fixtures: outputs of the official implementations for weights computed by a formula."""

import importlib.util
import json
import os
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

SHARED = Path(os.environ.get("SAM_TRAIN_SHARED", Path(__file__).parents[3] / "shared"))
ROOT = SHARED / "reference"

needs_reference = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no golden fixtures at {ROOT}")


def formula():
    """The module that computes weights and inputs from names and seeds."""
    spec = importlib.util.spec_from_file_location("state_dicts", ROOT / "state_dicts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def python_slice(text: str) -> slice:
    return slice(*(int(part) if part else None for part in text.split(":")))


class Reference:
    """One model's recipe and outputs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = ROOT / name
        self.golden = json.loads((self.folder / "golden.json").read_text())
        self.cases = {case["name"]: case for case in self.golden["cases"]}

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "golden.safetensors")

    @cached_property
    def keys(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(shape) for name, shape, _ in json.loads((self.folder / "keys.json").read_text())}

    def state_dict(self, overrides: dict | None = None) -> dict[str, torch.Tensor]:
        weights = self.golden["weights"]
        state = formula().reference_state_dict(self.folder / "keys.json", weights["seed"])
        formula().apply_overrides(state, weights.get("overrides"))
        assert formula().checksum(state)["crc32"] == weights["checksum"]["crc32"]
        return formula().apply_overrides(state, overrides)

    def image(self, name: str) -> torch.Tensor:
        """(3, H, W) uint8, or the encoder's own input for the image named ``tensor``."""
        recipe = self.golden["images"][name]
        if "input_tensor_seed" in recipe:
            return formula().reference_input_tensor(recipe["input_tensor_seed"], recipe["size"])
        return formula().reference_image(recipe["seed"], recipe["height"], recipe["width"]).permute(2, 0, 1)

    def original_size(self, image: str) -> tuple[int, int]:
        recipe = self.golden["images"][image]
        return (recipe["size"],) * 2 if "size" in recipe else (recipe["height"], recipe["width"])

    def tolerance(self, quantity: str) -> float:
        """20 times the noise of the official code against itself, at least 1e-4."""
        floor = self.golden["noise_floor"]["1 thread against 2 threads"].get(quantity, 0.0)
        return max(20 * floor, 1e-4)

    def low_res(self, case: dict) -> tuple[torch.Tensor, tuple[slice, slice]]:
        stored = case["outputs"]["low_res"]
        return self.tensors[stored["tensor"]], (python_slice(stored["rows"]), python_slice(stored["columns"]))

    def masks(self, case: dict) -> np.ndarray | None:
        stored = case["outputs"].get("masks")
        if stored is None:
            return None
        count, height, width = stored["shape"]
        bits = np.unpackbits(self.tensors[stored["tensor"]].numpy(), axis=1)[:, : height * width]
        return bits.reshape(count, height, width).astype(bool)
