"""Objects followed through videos and volumes, into files: whole files only, and resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.progress import Progress

from sam_train.data.sources.image_files import PLAIN
from sam_train.data.sources.tones import Tones
from sam_train.errors import InputError
from sam_train.files import write_text
from sam_train.inference.film import save_film
from sam_train.inference.finder import Finder
from sam_train.inference.footage import Footage, is_footage, open_footage
from sam_train.inference.instances import Instances
from sam_train.inference.mask_files import coco_annotations, write_coco, write_labels
from sam_train.inference.mask_filters import mask_boxes
from sam_train.inference.overlay import tinted
from sam_train.inference.run_lengths import RunLengths
from sam_train.inference.video_session import FrameMasks, VideoSession
from sam_train.inference.volumes import View
from sam_train.runs.predict import Outcome, Wanted, is_done, read_mark, stems_of


def list_footage(images: Path) -> dict[str, Path]:
    """Return a video, a volume or a folder of frames, or all of them in a folder, by name.

    Raises:
        InputError: If there is none.
    """
    if not images.exists():
        raise InputError(f"images={images}: no such file or folder")
    if is_footage(images):
        return {images.name: images}
    found = {path.name: path for path in sorted(images.iterdir()) if is_footage(path)} if images.is_dir() else {}
    if not found:
        raise InputError(f"images={images}: follow=true needs a video, a volume, a folder of frames, or several in one")
    return found


def follow(
    open_finder: Callable[[], Finder],
    footage: dict[str, Path],
    wanted: Wanted,
    folder: Path,
    formats: Sequence[str],
    progress: Progress,
    view: View | None = None,
    tones: Tones = PLAIN,
) -> Outcome:
    """Find objects on some frames, follow them through all, and write them down; what is done already is left alone.

    A prompt's image is ``<name>/<number of the frame>``, or ``<name>`` for the first frame, of a volume the middle one.

    Args:
        open_finder: Opens the model, if there is anything to do.
        footage: Videos, volumes and folders of frames, by name.
        wanted: What is looked for in a frame.
        folder: For the output.
        formats: ``labels`` and ``overlays``.
        progress: Shows how far it is.
        view: How volumes are looked at.
        tones: How stored numbers of frames become 8 bits.
    """
    finder, marks, problems = None, [], []
    for (name, path), stem in zip(footage.items(), stems_of([*footage]), strict=True):
        mark, source = folder / "instances" / f"{stem}.json", str(path.absolute())
        marks.append(mark)
        if is_done(mark, source, path, wanted):
            continue
        mark.unlink(missing_ok=True)
        try:
            opened = open_footage(path, view, tones)
            finder = finder or open_finder()
            found = _follow(finder, opened, name, wanted, progress)
        except InputError as error:
            problems.append(f"{name}: {error}")
        else:
            _write(opened, stem, found, folder, formats)
            records = [_record(f"{name}/{frame}", one) for frame, one in enumerate(found)]
            write_text(mark, json.dumps({"source": source, "images": records}))
    done = [read_mark(mark)["images"] for mark in marks if mark.is_file()]
    write_coco(folder / "instances.json", [image for images in done for image in images])
    tracks = sum(len({one["track_id"] for image in images for one in image["annotations"]}) for images in done)
    return Outcome(len(done), tracks, problems)


def _follow(finder: Finder, footage: Footage, name: str, wanted: Wanted, progress: Progress) -> list[Instances]:
    """Return the objects of each frame, the same ones in the same order on all."""
    session = VideoSession(finder.predictor.model, footage.read, footage.num_frames)
    categories: list[str | None] = []
    prompted = _prompted_frames(wanted, name, footage)
    for frame, given in prompted.items():
        found = wanted.find(finder, given, footage.read(frame))
        for mask, category in zip(found.masks.masks(), found.categories, strict=True):
            categories.append(category)
            session.prompt(frame, len(categories), mask=mask)
    if not categories:
        raise InputError(f"nothing was found on frame {', '.join(map(str, prompted))}, so there is nothing to follow")
    first = min(prompted)
    task = progress.add_task(name, total=footage.num_frames)
    by_frame: dict[int, Instances] = {}
    back = session.propagate(first - 1, reverse=True) if first else iter(())
    for masks in chain(session.propagate(first), back):
        by_frame[masks.frame] = _instances(masks, categories)
        progress.advance(task)
    return [by_frame[frame] for frame in range(footage.num_frames)]


def _prompted_frames(wanted: Wanted, name: str, footage: Footage) -> dict[int, str]:
    """Return the frames on which objects are looked for, and the name of each for a file of prompts."""
    if wanted.prompts is None:
        return {footage.start: name}
    named = {frame: f"{name}/{frame}" for frame in range(footage.num_frames)}
    found = {frame: given for frame, given in named.items() if wanted.prompts.has(given)}
    if wanted.prompts.has(name):
        found.setdefault(footage.start, name)
    if not found:
        raise InputError(f"{wanted.prompts.path} has no prompt for {name} or {name}/<number of a frame>")
    return found


def _instances(found: FrameMasks, categories: Sequence[str | None]) -> Instances:
    masks = found.masks.cpu()
    size = masks.shape[1], masks.shape[2]
    scores = found.score.float().sigmoid().cpu()
    return Instances(RunLengths.of(masks, size), mask_boxes(masks), scores, tuple(categories))


def _record(name: str, found: Instances) -> dict[str, Any]:
    height, width = found.size
    tracks = [{**one, "track_id": number} for number, one in enumerate(coco_annotations(found), start=1)]
    there = [one for one in tracks if one["area"]]
    return {"file_name": name, "height": height, "width": width, "annotations": there}


def _write(footage: Footage, stem: str, found: Sequence[Instances], folder: Path, formats: Sequence[str]) -> None:
    """Write label images, or a label volume, with one number for an object on all frames; and a film."""
    if "labels" in formats and footage.volume is not None:
        planes = np.stack([one.label_image() for one in found]).astype(np.int16)
        footage.volume.write_labels(folder / "labels" / f"{stem}{footage.volume.label_suffix}", planes)
    elif "labels" in formats:
        for frame, one in enumerate(found):
            write_labels(folder / "labels" / stem / f"{frame:05}", one.label_image(), None, as_tiff=False)
    if "overlays" in formats:
        save_film(_pictures(footage, found), folder / "overlays" / stem)


def _pictures(footage: Footage, found: Sequence[Instances]) -> Iterator[Image.Image]:
    for frame, one in enumerate(found):
        image = Image.fromarray(footage.read(frame).permute(1, 2, 0).contiguous().numpy())
        yield tinted(image, torch.from_numpy(one.label_image().astype(np.int64)))
