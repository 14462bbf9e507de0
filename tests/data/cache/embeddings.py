"""A cache of cheap features; run as a script, fills one."""

import sys
from pathlib import Path

from torch.nn.functional import avg_pool2d

from sam_train.data.cache.embedding_cache import EmbeddingCache
from sam_train.data.cache.filling import fill
from sam_train.data.loading.views import Views
from sam_train.preprocessing import Preprocessing
from sam_train.structures import Batch, ImageFeatures
from tests.data.samples import Squares

SAM = Preprocessing(image_size=64)


def encode(batch: Batch) -> ImageFeatures:
    """A coarse and two finer pictures of each image."""
    images = SAM.normalize(batch.images, batch.valid_size)
    return ImageFeatures(avg_pool2d(images, 16), (avg_pool2d(images, 4), avg_pool2d(images, 8)))


def plain_views(num_images: int) -> Views:
    return Views(Squares(num_images), SAM)


if __name__ == "__main__":
    fill(EmbeddingCache(Path(sys.argv[1]), "encoder"), [plain_views(int(sys.argv[2]))], encode)
