"""From a clean picture to what a camera or microscope would have delivered. Masks do not change."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter

from sam_train.data.world.draws import between, chance, count, log_between
from sam_train.data.world.tiles import cut

Picture = Float[np.ndarray, "channels h w"]


def uneven_light(image: Picture, rng: np.random.Generator, strength: float) -> None:
    """Brightness that drifts across the image: a vignette or a slope, in place."""
    side = np.linspace(-1, 1, image.shape[-1], dtype=np.float32)
    x0, y0, round_ = between(rng, -1, 1), between(rng, -1, 1), chance(rng, 0.5)
    columns, rows = ((side - x0) ** 2, (side - y0) ** 2) if round_ else (side * x0, side * y0)
    image *= np.clip(1 - strength * (0.4 if round_ else 0.7) * np.add.outer(rows, columns), 0.05, 2)


def cloudy_light(image: Picture, rng: np.random.Generator, strength: float) -> None:
    """Soft patches of shade, in place."""
    image *= np.maximum(1 + strength * cut("cloud", image.shape[-1], image.shape[1:], rng), 0.1)


def shot_noise(image: Picture, rng: np.random.Generator, amount: float, colored: bool = False) -> None:
    """Noise whose variance grows with brightness, as of counted photons, in place."""
    side = image.shape[-1]
    for channels in image[:, None] if colored else [image]:
        channels += amount * np.sqrt(np.maximum(channels[0], 0) + 0.02) * cut("white", side, (side, side), rng)


def to_bytes(image: Picture) -> UInt8[np.ndarray, "3 h w"]:
    """0..1 to 0..255, clipped."""
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


def blurred(image: UInt8[np.ndarray, "3 h w"], radius: float) -> UInt8[np.ndarray, "3 h w"]:
    """Out of focus by this radius in pixels."""
    return np.stack([np.asarray(Image.fromarray(plane).filter(ImageFilter.BoxBlur(radius))) for plane in image])


def compressed(image: UInt8[np.ndarray, "3 h w"], quality: int) -> UInt8[np.ndarray, "3 h w"]:
    """Through JPEG and back."""
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer)).transpose(2, 0, 1)


def camera(image: Picture, rng: np.random.Generator, gray: bool) -> UInt8[np.ndarray, "3 h w"]:
    """Any camera: light, exposure, focus, noise and compression, most of them mild, some severe."""
    scale = image.shape[-1] / 256
    image = image[:1] if gray else image
    if chance(rng, 0.35):
        uneven_light(image, rng, between(rng, 0.1, 0.7))
    if chance(rng, 0.15):
        cloudy_light(image, rng, between(rng, 0.03, 0.15))
    if chance(rng, 0.3):
        _expose(image, rng)
    if chance(rng, 0.25):
        image = blurred(to_bytes(image), scale * log_between(rng, 0.3, 2.0)).astype(np.float32) / 255
    if chance(rng, 0.6):
        shot_noise(image, rng, log_between(rng, 0.005, 0.12), colored=chance(rng, 0.4))
    pixels = to_bytes(image)
    pixels = np.repeat(pixels, 3, axis=0) if gray else pixels
    return compressed(pixels, count(rng, 25, 90)) if chance(rng, 0.2) else pixels


def _expose(image: Picture, rng: np.random.Generator) -> None:
    """Too dark, too flat or with another gamma, in place."""
    kind = rng.random()
    if kind < 0.35:
        image *= log_between(rng, 0.15, 0.8)
    elif kind < 0.7:
        contrast = between(rng, 0.35, 0.9)
        image *= contrast
        image += between(rng, 0.0, 1 - contrast)
    else:
        np.power(np.clip(image, 0, 1), log_between(rng, 0.5, 2.0), out=image)
