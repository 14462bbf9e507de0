"""Small tars and folders as SA-1B's are."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.sources.coco_files import compressed, run_lengths

SIZE = (12, 16)


def labels(number=0):
    found = np.zeros(SIZE, np.uint8)
    found[1:4, 1:5] = 1
    found[6 : 8 + number % 3, 6:9] = 2
    return found


def photo(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def record(number=0, **more):
    """What is in the JSON of an image: one mask compressed, one not."""
    masks = [labels(number) == value for value in (1, 2)]
    annotations = [
        {"id": place, "area": int(mask.sum()), "segmentation": write(mask), "bbox": [1, 1, 4, 3], "predicted_iou": 0.9}
        for place, (mask, write) in enumerate(zip(masks, (compressed, run_lengths), strict=True))
    ]
    image = {"image_id": number, "height": SIZE[0], "width": SIZE[1], "file_name": f"sa_{number}.jpg"}
    return {"image": image, "annotations": annotations, **more}


def files(numbers, **more):
    """Names and contents of an image and its JSON, number after number."""
    for number in numbers:
        yield f"./sa_{number}.jpg", photo(number)
        yield f"./sa_{number}.json", json.dumps(record(number, **more)).encode()


def write_tar(path: Path, members, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            if isinstance(name, tarfile.TarInfo):
                tar.addfile(name)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def make_tars(root: Path, num_tars=3, num_images=4) -> Path:
    for tar in range(num_tars):
        write_tar(root / f"sa_{tar:06}.tar", files(range(tar * num_images, (tar + 1) * num_images)))
    return root


def make_folder(root: Path, numbers) -> Path:
    for name, content in files(numbers):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root
