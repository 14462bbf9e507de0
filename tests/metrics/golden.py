"""Masks and values of the official metric codes; golden.json names their versions and conventions."""

import base64
import json
from functools import cache

import numpy as np
import pytest

from tests.parity.reference import ROOT

PATH = ROOT / "metrics" / "golden.json"

needs_golden = pytest.mark.skipif(not PATH.is_file(), reason=f"no golden metrics at {PATH}")


@cache
def golden() -> dict:
    return json.loads(PATH.read_text()) if PATH.is_file() else {"pairs": []}


def unpack(text: str, *shape: int) -> np.ndarray:
    """A boolean array from the base64 of its packed bits."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))
    return bits[: np.prod(shape)].reshape(shape).astype(bool)


def masks_of(pair: dict) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true mask."""
    return tuple(unpack(pair[key], pair["height"], pair["width"]) for key in ("prediction", "gt"))


def each_pair():
    """Parametrize a test over the pairs of masks."""
    return pytest.mark.parametrize("pair", golden()["pairs"], ids=lambda pair: pair["name"])
