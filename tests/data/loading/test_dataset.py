"""Batches: what augmentation, choice of objects and packing keep and what they change."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader

from sam_train.data.loading import settings
from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.collate import collate, to_batch
from sam_train.data.loading.datamodule import SegmentationData
from sam_train.data.loading.dataset import EvalDataset, TrainDataset
from sam_train.data.loading.settings import Loading
from sam_train.data.loading.transforms import resize_sample
from sam_train.data.sources.base import all_objects
from sam_train.errors import InputError
from sam_train.preprocessing import Preprocessing
from sam_train.structures import Sample
from tests.data.samples import Squares

SAM = Preprocessing(image_size=64)
SAM2 = Preprocessing(image_size=64, resize="square")
GEOMETRY = Augmentation(flip=0.5, zoom=(0.7, 1.5), rotate=20, shear=5, color=0)


def train_dataset(augmentation=GEOMETRY, preprocessing=SAM, max_objects=8, min_area=4, seed=0):
    return TrainDataset(Squares(), preprocessing, augmentation, max_objects, min_area, seed)


def assert_equal(first, second):
    for name, value in vars(first).items():
        other = getattr(second, name)
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other


@pytest.mark.parametrize("preprocessing", [SAM, SAM2])
def test_an_item_is_a_function_of_epoch_index_and_seed(preprocessing):
    first = train_dataset(preprocessing=preprocessing)
    torch.manual_seed(5)
    once = first[(3, 4)]
    torch.rand(100)
    assert_equal(once, train_dataset(preprocessing=preprocessing)[(3, 4)])
    assert not torch.equal(once.images, first[(4, 4)].images)
    assert not torch.equal(once.images, train_dataset(preprocessing=preprocessing, seed=1)[(3, 4)].images)


@pytest.mark.parametrize("preprocessing", [SAM, SAM2])
def test_masks_move_with_the_image(preprocessing):
    dataset = train_dataset(preprocessing=preprocessing, min_area=40)
    for epoch in range(8):
        batch = dataset[(epoch, 4)]
        colors = sorted(batch.images[0, 0][mask].median().item() for mask in batch.masks)
        assert len(set(colors)) == len(colors)  # each square its own
        assert all(min(abs(color - known) for known in (60, 100, 140, 180)) <= 5 for color in colors)
        visible = train_dataset(preprocessing=preprocessing)[(epoch, 4)].masks.any(0)
        near = torch.nn.functional.max_pool2d(visible[None].float(), 5, 1, 2)[0] > 0
        assert batch.images[0, 0][~near].float().mean() < 2  # only masks have color


@pytest.mark.parametrize("preprocessing", [SAM, SAM2, Preprocessing(image_size=96)])
def test_an_augmentation_that_changes_nothing_gives_the_plain_view(preprocessing):
    nothing = Augmentation(flip=0, zoom=(1, 1), rotate=0, shear=0, color=0)
    sample = Squares().read(4)
    plain, ours = resize_sample(sample, preprocessing), nothing(sample, preprocessing, seed=0)
    assert torch.equal(ours.labels, plain.labels)
    assert (ours.image.int() - plain.image.int()).abs().max() <= 1


def test_without_augmentation_the_frame_is_the_predictors():
    source = Squares()
    item = train_dataset(augmentation=None)[(0, 3)]
    resized = resize_sample(source.read(3), SAM)
    assert item.valid_size.tolist() == [[43, 64]]
    assert torch.equal(item.images[0, :, :43], resized.image)
    assert not item.images[0, :, 43:].any()
    assert torch.equal(item.masks[:, :43], resized.masks())


def test_objects_are_chosen_anew_each_epoch_up_to_the_limit():
    dataset = train_dataset(augmentation=None, max_objects=2)
    chosen = {tuple(dataset[(epoch, 4)].masks.flatten(1).int().argmax(1).tolist()) for epoch in range(20)}
    assert all(len(objects) == 2 for objects in chosen)
    assert len(chosen) == 6  # all pairs of 4


class Specks(Squares):
    """On every image two objects among fifty pixels that are an object each."""

    def read(self, index, choose=all_objects, with_image=True):
        labels = torch.zeros(1, 60, 90, dtype=torch.int32)
        labels[0, 10:30, 10:30], labels[0, 10:30, 50:70] = 51, 52
        labels[0, 50, :50] = torch.arange(1, 51)
        shares = torch.tensor([1.0] * 50 + [400.0] * 2) / (60 * 90)
        chosen = choose(shares)
        image = torch.zeros(3 if with_image else 0, 60, 90, dtype=torch.uint8)
        return Sample(self.ids[index], image, labels, torch.zeros(len(chosen), dtype=torch.long), chosen + 1)


def test_objects_that_are_too_small_do_not_displace_large_ones():
    dataset = TrainDataset(Specks(), SAM, None, max_objects=2, min_area=16, seed=0)
    assert [dataset[(epoch, 0)].num_objects for epoch in range(10)] == [2] * 10


class MostlyEmpty(Squares):
    """The first forty of sixty images have no object."""

    def __init__(self) -> None:
        super().__init__(60)
        self.read_at = []

    def read(self, index, choose=all_objects, with_image=True):
        self.read_at.append(index)
        sample = Squares(1, first=1 if index >= 40 else 0).read(0, choose, with_image)
        return replace(sample, id=self.ids[index])


def test_an_image_without_objects_is_replaced_by_a_random_other():
    source = MostlyEmpty()
    dataset = TrainDataset(source, SAM, None, 8, 4, 0)
    shown = [dataset[(0, index)].ids[0] for index in range(60)]
    times = [shown.count(source.ids[index]) for index in range(40, 60)]
    assert sum(times) == 60
    assert max(times) < 10  # the next in order would be shown 41 times
    assert len(source.read_at) == 40 + 60  # an empty one is read once
    again = TrainDataset(MostlyEmpty(), SAM, None, 8, 4, 0)
    assert [again[(0, index)].ids[0] for index in reversed(range(60))] == shown[::-1]
    assert EvalDataset(Squares(), SAM, 4)[0].num_objects == 0


def test_some_images_of_a_source_are_always_the_same_and_in_no_step():
    source = Squares(640)
    some = source.some(10)
    places = [source.ids.index(name) for name in some.ids]
    assert list(source.some(10).ids) == list(some.ids)
    assert places == sorted(places)
    assert len({place % 64 for place in places}) > 5
    assert some.read(2).id == source.ids[places[2]]
    assert some.identity(2) == source.identity(places[2])
    assert source.some(640) is source


def test_training_validates_on_some_images_and_the_report_uses_all():
    loading = Loading(num_workers=0, max_val_images=2)
    data = SegmentationData({"val": Squares(6)}, SAM, loading, 0)
    assert [name for batch in data.val_dataloader() for name in batch.ids] == list(Squares(6).some(2).ids)
    assert sum(len(batch.ids) for batch in data.eval_dataloader("val")) == 6


def test_devices_share_processors_unless_slurm_gives_each_its_own(monkeypatch):
    monkeypatch.setattr(settings, "num_processors", lambda: 8)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    assert Loading().workers(4) == 1
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "1")
    assert Loading().workers(4) == 1
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4")
    assert Loading().workers(4) == 7


def test_every_training_image_keeps_an_object():
    everything_out_of_sight = Augmentation(zoom=(40, 50), rotate=0)
    for augmentation, min_area in ((everything_out_of_sight, 4), (None, 10_000)):
        dataset = train_dataset(augmentation=augmentation, min_area=min_area)
        for epoch in range(5):
            assert dataset[(epoch, 4)].num_objects >= 1


class Speck(Squares):
    """One object of one pixel, on the first image or on all; it is lost when images are made smaller."""

    def __init__(self, num_specks: int) -> None:
        super().__init__()
        self.num_specks = num_specks

    def read(self, index, choose=all_objects, with_image=True):
        if index >= self.num_specks:
            return super().read(index, choose, with_image)
        sample = super().read(0, choose, with_image)
        sample.labels[0, 1, 1] = 1
        return replace(sample, plane=torch.zeros(1, dtype=torch.long), value=torch.ones(1, dtype=torch.long))


def test_an_image_whose_objects_vanish_is_replaced_by_another():
    small = Preprocessing(image_size=16)
    batch = TrainDataset(Speck(1), small, None, 8, 0, 0)[(0, 0)]
    assert batch.ids != ("squares/0",)
    assert batch.masks.flatten(1).any(1).all()


def test_images_whose_objects_all_vanish_are_refused():
    with pytest.raises(InputError, match=r"loader.min_area=4: .* 16 x 16"):
        TrainDataset(Speck(5), Preprocessing(image_size=16), None, 8, 4, 0)[(0, 0)]


def test_an_objects_draws_depend_on_nothing_but_itself():
    one, all_four = (train_dataset(augmentation=None, max_objects=limit)[(7, 4)] for limit in (1, 8))
    place = one.masks.flatten(1).int().argmax(1)
    same = all_four.masks.flatten(1).int().argmax(1) == place
    assert torch.equal(one.draws, all_four.draws[same])
    assert not torch.equal(all_four.draws[0], all_four.draws[1])


def test_evaluation_compares_at_the_original_size():
    batch = EvalDataset(Squares(), SAM, 4)[4]
    assert batch.original_size.tolist() == [[60, 90]]
    assert torch.equal(batch.originals[0].masks(), Squares().read(4).masks())
    assert len(batch.masks) == len(batch.originals[0].value) == 4
    assert batch.originals[0].image.untyped_storage().nbytes() == 0  # or loading processes would hand it over
    none = EvalDataset(Squares(), SAM, 10_000)[4]
    assert (none.num_objects, len(none.originals[0].value), none.num_too_small) == (0, 0, (4,))


def test_collating_packs_objects_in_order():
    dataset = EvalDataset(Squares(), SAM, 4)
    batch = collate([dataset[2], dataset[0], dataset[3]])
    assert batch.object_image.tolist() == [0, 0, 2, 2, 2]
    assert batch.ids == ("squares/2", "squares/0", "squares/3")
    assert torch.equal(batch.masks, torch.cat([dataset[2].masks, dataset[3].masks]))
    assert [len(original.value) for original in batch.originals] == [2, 0, 3]
    assert batch.num_too_small == (0, 0, 0)


@pytest.mark.parametrize("arguments", [{"zoom": (0, 1)}, {"zoom": (2, 1)}, {"flip": 2}, {"color": -1}])
def test_impossible_augmentations_are_refused(arguments):
    with pytest.raises(InputError, match="augmentation"):
        Augmentation(**arguments)


@pytest.mark.parametrize("huge", [0, 10**9])
@pytest.mark.parametrize("num_objects", [3, 12])
def test_masks_and_areas_are_those_of_a_plain_comparison(num_objects, huge):
    generator = torch.Generator().manual_seed(num_objects)
    labels = torch.randint(9, (3, 30, 40), generator=generator, dtype=torch.int32)
    labels[0, 0, 0] += huge
    plane = torch.randint(3, (num_objects,), generator=generator)
    value = torch.randint(1, 12, (num_objects,), generator=generator)  # 9, 10 and 11 are nowhere
    value[0] += huge
    sample = Sample("a", torch.zeros(3, 30, 40, dtype=torch.uint8), labels, plane, value)
    expected = torch.stack([labels[p] == v for p, v in zip(plane.tolist(), value.tolist(), strict=True)])
    assert torch.equal(sample.masks(), expected)
    assert torch.equal(sample.areas(), expected.sum((1, 2)))


def test_planes_are_augmented_alike():
    sample = Squares().read(4)
    together = GEOMETRY(replace(sample, labels=sample.labels.repeat(3, 1, 1)), SAM, seed=2).labels
    alone = GEOMETRY(sample, SAM, seed=2).labels
    assert alone.any()
    assert torch.equal(together, alone.expand(3, -1, -1))


@pytest.mark.parametrize("prepare", [resize_sample, partial(Augmentation(rotate=20), seed=3)])
def test_labels_beyond_what_floats_can_count_survive(prepare):
    sample, preprocessing = Squares().read(4), Preprocessing(image_size=128)
    large = 2**24 + 1
    far = replace(sample, labels=sample.labels + large * (sample.labels > 0), value=sample.value + large)
    near, far = (to_batch(prepare(one, preprocessing), preprocessing, one.size) for one in (sample, far))
    assert near.masks.any(dim=(1, 2)).all()
    assert torch.equal(near.masks, far.masks)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loading_process_gives_the_same_batches(num_workers):
    dataset = train_dataset()
    batches = [[(0, 1), (0, 4)], [(1, 3)]]
    loader = DataLoader(dataset, batch_sampler=batches, collate_fn=collate, num_workers=num_workers)
    for keys, batch in zip(batches, loader, strict=True):
        alone = [dataset[key] for key in keys]
        assert torch.equal(batch.masks, torch.cat([item.masks for item in alone]))
        assert torch.equal(batch.images, torch.cat([item.images for item in alone]))
