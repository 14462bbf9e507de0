"""Turn a COCO export into one mask file per object: farm/annotations.json and farm/images."""

from pathlib import Path

from PIL import Image
from pycocotools.coco import COCO

coco = COCO("farm/annotations.json")
for image in coco.loadImgs(coco.getImgIds()):
    folder = Path("farm/masks", image["file_name"]).with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
    if not annotations:  # also set data.allow_empty=true then
        Image.new("L", (image["width"], image["height"])).save(folder / "none.png")
    for annotation in annotations:
        Image.fromarray(coco.annToMask(annotation) * 255).save(folder / f"{annotation['id']}.png")
