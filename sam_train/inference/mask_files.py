"""Files that hold the objects of an image: pictures, label images, polygons, and COCO's run lengths."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from sam_train.files import write_text, written_whole
from sam_train.inference.georeference import Georeference, write_label_tiff
from sam_train.inference.instances import Instances
from sam_train.inference.overlay import tinted
from sam_train.inference.polygons import Ring, polygons

_OVERLAY_SIDE = 2048  # pixels of a picture's longer side, at most
_FAST = 1  # of zlib's levels: a picture takes a fifth of the time, and a tenth more of the disk
_UNNAMED = "object"


def write_overlay(path: Path, pixels: UInt8[Tensor, "3 h w"], labels: np.ndarray) -> None:
    """Write a PNG of an image with each object in a color of its own; of large images a smaller one."""
    height, width = labels.shape
    scale = min(_OVERLAY_SIDE / max(height, width), 1)
    size = max(round(height * scale), 1), max(round(width * scale), 1)
    rows, columns = (np.arange(new) * old // new for old, new in zip(labels.shape, size, strict=True))
    step = max(int(1 / scale), 1)  # a whole step first: the image itself is not copied at full size
    image = Image.fromarray(np.ascontiguousarray(pixels[:, ::step, ::step].permute(1, 2, 0).numpy()))
    objects = torch.from_numpy(labels[np.ix_(rows, columns)].astype(np.int64))
    with written_whole(path) as file:
        tinted(image.resize(size[::-1]), objects).save(file, format="PNG", compress_level=_FAST)


def write_labels(stem: Path, labels: np.ndarray, place: Georeference | None, as_tiff: bool) -> Path:
    """Write a label image: a PNG of 16 bits, or a TIFF where the source is one or there are more than 65535 objects.

    Args:
        stem: Of the file, to which the suffix is added.
        labels: The number of the object at each pixel.
        place: Where the source lies on the earth.
        as_tiff: Whether the source is a TIFF.

    Returns:
        The file.
    """
    if as_tiff or labels.dtype != np.uint16:
        path = stem.with_name(f"{stem.name}.tif")
        with written_whole(path) as file:
            write_label_tiff(file, labels, place)
    else:
        path = stem.with_name(f"{stem.name}.png")
        with written_whole(path) as file:
            Image.fromarray(labels).save(file, format="PNG")
    return path


def write_geojson(path: Path, instances: Instances, place: Georeference | None) -> None:
    """Write polygons along the edges of pixels, in pixels x, y or, where the source has a place, on the earth."""
    features = []
    for index in range(len(instances)):
        x0, y0, *_ = box = instances.boxes[index].tolist()
        mask = instances.masks.in_box(index, box)
        found = [[_placed(ring, place) for ring in rings] for rings in polygons(mask, (y0, x0))]
        kind, coordinates = ("Polygon", found[0]) if len(found) == 1 else ("MultiPolygon", found)
        properties = {
            "id": index + 1,
            "category": instances.categories[index],
            "score": round(float(instances.scores[index]), 4),
            "area_px": int(mask.sum()),
        }
        geometry = {"type": kind, "coordinates": coordinates}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    content: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if place is not None and place.epsg is not None:
        content["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{place.epsg}"}}
    write_text(path, json.dumps(content))


def _placed(ring: Ring, place: Georeference | None) -> list[list[float]]:
    if place is None:
        return [[*corner] for corner in ring]
    found = place.place(np.array(ring, float))
    flipped = np.linalg.det(place.place(np.eye(2)) - place.place(np.zeros((1, 2)))) < 0
    return found[::-1].tolist() if flipped else found.tolist()  # outer rings stay counterclockwise (RFC 7946)


def coco_annotations(instances: Instances) -> list[dict[str, Any]]:
    """Return COCO's annotation of each object, but for the numbers of image and category; ``category`` is its name."""
    boxes = torch.cat([instances.boxes[:, :2], instances.boxes[:, 2:] - instances.boxes[:, :2] + 1], dim=1).tolist()
    return [
        {"segmentation": rle, "area": area, "bbox": box, "score": score, "iscrowd": 0, "category": name or _UNNAMED}
        for rle, area, box, score, name in zip(
            instances.masks.rles(),
            instances.masks.areas().tolist(),
            boxes,
            instances.scores.tolist(),
            instances.categories,
            strict=True,
        )
    ]


def write_coco(path: Path, images: Sequence[Mapping[str, Any]]) -> None:
    """Write one COCO file of all images.

    Args:
        path: The file.
        images: Of each ``file_name``, ``height``, ``width`` and the ``annotations`` of :func:`coco_annotations`.
    """
    names = sorted({one["category"] for image in images for one in image["annotations"]}) or [_UNNAMED]
    numbers = {name: number for number, name in enumerate(names, start=1)}
    records, found = [], []
    for image_id, image in enumerate(images, start=1):
        records.append({"id": image_id, **{key: image[key] for key in ("file_name", "height", "width")}})
        for one in image["annotations"]:
            rest = {key: value for key, value in one.items() if key != "category"}
            found.append({"id": len(found) + 1, "image_id": image_id, "category_id": numbers[one["category"]], **rest})
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    content = {"info": {}, "images": records, "annotations": found, "categories": categories}
    write_text(path, json.dumps(content))
