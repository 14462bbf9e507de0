"""How images look, in 64 bits: copies that were resized, recompressed or brightened have nearly the same."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Int, UInt8, UInt64
from PIL import Image
from torch import Tensor

DISTANCE = 6
"""Bits in which the looks of two images may differ that are called alike, of 64.

Of 308 real images, 95% of the copies in JPEG of quality 30, at half the size, or brighter or darker by a third differ
in at most 6. Two different photographs, micrographs or aerial images of one set differ in 18 at least, small slices of
two patients' MRI in 6.
"""

_SIDE, _KEPT = 32, 8  # the image is reduced to 32 x 32, and 8 x 8 of its frequencies count
_FLAT = 1.0  # gray levels; below this deviation an image is of one color and looks like any other such
_MOST_PAIRS = 1 << 22  # compared at once, which bounds memory


def look_of(image: UInt8[Tensor, "3 h w"]) -> np.uint64 | None:
    """Return the perceptual hash of an image: the signs of its lowest frequencies; None of an image of one color.

    It is pHash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1):
    coefficients of the cosine transform above and below their median.
    """
    from scipy.fft import dctn

    gray = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(gray, np.float64)
    if pixels.std() < _FLAT:
        return None
    low = np.asarray(dctn(pixels, norm="ortho"))[:_KEPT, :_KEPT].ravel()
    low[0] = 0  # the mean, which says how bright the image is
    return np.packbits(low > np.median(low)).view(">u8")[0].astype(np.uint64)


def alike(one: UInt64[np.ndarray, "n"], other: UInt64[np.ndarray, "m"]) -> Int[np.ndarray, "k 2"]:
    """Return all pairs of looks that differ in at most :data:`DISTANCE` bits, as indices of the two arrays.

    Looks that differ in 6 bits are equal in one of 7 parts at least (the pigeonhole principle, as in Norouzi et al.,
    "Fast Search in Hamming Space with Multi-Index Hashing", 2012), so that only those with an equal part are compared.
    """
    found = [np.zeros((0, 2), np.int64)]
    edges = np.linspace(0, 64, DISTANCE + 2).astype(np.uint64)
    for low, high in pairwise(edges):
        mask = np.uint64((1 << int(high - low)) - 1)
        parts, others = (one >> low) & mask, (other >> low) & mask
        order = others.argsort(kind="stable")
        first, last = (np.searchsorted(others[order], parts, side) for side in ("left", "right"))
        for rows in _chunks(last - first):
            counts = last[rows] - first[rows]
            within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
            left, right = np.repeat(rows, counts), order[np.repeat(first[rows], counts) + within]
            near = np.bitwise_count(one[left] ^ other[right]) <= DISTANCE
            found.append(np.stack([left[near], right[near]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _chunks(counts: Int[np.ndarray, "n"]) -> list[Int[np.ndarray, "r"]]:
    """Return the rows in parts whose counts add up to few pairs."""
    parts = counts.cumsum() // _MOST_PAIRS
    return np.split(np.arange(len(counts)), np.flatnonzero(np.diff(parts)) + 1)
