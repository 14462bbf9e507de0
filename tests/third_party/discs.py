"""A data source as a stranger would write it: discs on a noisy ground, three images to a patient."""

from dataclasses import dataclass

import torch

from sam_train.data.sources.base import DataSource, ImageSet, all_objects
from sam_train.data.sources.splits import split_by_group
from sam_train.label_planes import pack_masks
from sam_train.structures import Sample


class DiscImages(ImageSet):
    def __init__(self, number):
        self.ids = [f"disc {index}" for index in range(number)]

    def group(self, index):
        return f"patient {index // 3}"

    def read(self, index, choose=all_objects, with_image=True):
        rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
        masks = [torch.hypot(rows - 20.0, columns - 20 - index) < 10, torch.hypot(rows - 40.0, columns - 30.0) < 12]
        image = torch.randint(0, 60, (3, 64, 64), generator=torch.Generator().manual_seed(index), dtype=torch.uint8)
        image[:, masks[0] | masks[1]] += 150
        chosen = choose(torch.stack(masks).flatten(1).float().mean(1)).tolist()
        labels, plane, value = pack_masks(((row + 1, masks[row]) for row in chosen), (64, 64))
        return Sample(self.ids[index], image if with_image else image[:0], labels, plane, value)


@dataclass(frozen=True)
class Discs(DataSource):
    number: int = 12

    def splits(self):
        return split_by_group(DiscImages(self.number), [0.5, 0.25, 0.25])
