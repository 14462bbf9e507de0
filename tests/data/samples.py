"""A source in memory: a few images with objects of known shape."""

import torch

from sam_train.data.sources.base import ImageSet, all_objects
from sam_train.structures import Sample


class Squares(ImageSet):
    """Image i holds i modulo 6 squares, each with its own color, so that image and masks can be compared.

    Images are counted from ``first``.
    """

    def __init__(self, num_images: int = 5, size: tuple[int, int] = (60, 90), first: int = 0) -> None:
        self.ids = [f"squares/{first + index}" for index in range(num_images)]
        self.size = size
        self.first = first

    def read(self, index, choose=all_objects, with_image=True):
        number_of_squares = (self.first + index) % 6
        image = torch.zeros(3, *self.size, dtype=torch.uint8)
        labels = torch.zeros(1, *self.size, dtype=torch.int32)
        for number in range(number_of_squares):
            top, left = 5 + 25 * (number // 3), 5 + 28 * (number % 3)
            labels[0, top : top + 16, left : left + 16] = number + 1
            image[:, top : top + 16, left : left + 16] = 60 + 40 * number
        shares = torch.full((number_of_squares,), 256.0 / (self.size[0] * self.size[1]))
        chosen = choose(shares)
        image = image if with_image else image[:0]
        return Sample(self.ids[index], image, labels, torch.zeros(len(chosen), dtype=torch.long), chosen + 1)

    def fingerprint(self, index):
        return str(self.size)
