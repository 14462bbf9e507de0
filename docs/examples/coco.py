"""The objects of a COCO export, from Python: farm/annotations.json and farm/images."""

from sam_train.data.sources.coco.source import CocoSource

images = CocoSource("farm", categories=["cow"], split=(0, 0, 1)).splits()["test"]
sample = images.read(0)
print(sample.id, sample.category, sample.areas().tolist())
