"""Small COCO data sets, as COCO itself and as labelling tools write them."""

import copy
import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

SIZE = (12, 16)
SQUARE = [2, 1, 6, 1, 6, 5, 2, 5]
CATEGORIES = [{"id": 3, "name": "leaf", "supercategory": "plant"}, {"id": 7, "name": "stem", "supercategory": "plant"}]


def pixels(seed=0, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def square(top=1, left=2, side=4):
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def compressed(mask):
    runs = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": runs["size"], "counts": runs["counts"].decode()}


def run_lengths(mask):
    changes = np.flatnonzero(np.diff(mask.T.ravel(), prepend=False))
    return {"size": list(mask.shape), "counts": np.diff(changes, prepend=0, append=mask.size).tolist()}


def annotation(number, image, outline=None, category=3, **more):
    outline = [SQUARE] if outline is None else outline
    box = {"bbox": [2, 1, 4, 4], "area": 16.0, "iscrowd": 0}
    return {"id": number, "image_id": image, "category_id": category, "segmentation": outline, **box, **more}


def content(num_images=10, folder="", **more):
    """One square in each image, and a second one of another category in every other."""
    images = [
        {"id": 5 + index, "file_name": f"{folder}{index}.png", "height": SIZE[0], "width": SIZE[1]}
        for index in range(num_images)
    ]
    annotations = [annotation(100 + index, 5 + index) for index in range(num_images)]
    annotations += [
        annotation(200 + index, 5 + index, [[8, 2, 12, 2, 12, 8]], category=7) for index in range(0, num_images, 2)
    ]
    return {"images": images, "annotations": annotations, "categories": copy.deepcopy(CATEGORIES), **more}


def save_images(folder: Path, names, first=0):
    for seed, name in enumerate(names, start=first):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(seed)).save(folder / name)


def save_json(path: Path, what) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(what))
    return path


def make_coco(root: Path, what=None, json_name="annotations.json", images="images") -> Path:
    what = content() if what is None else what
    save_images(root / images, [one["file_name"] for one in what["images"]])
    save_json(root / json_name, what)
    return root
