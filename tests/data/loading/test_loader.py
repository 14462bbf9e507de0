"""Loading in other processes."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from sam_train.data.loading.loader import BatchLoader
from sam_train.data.loading.views import Views
from sam_train.errors import FileError, Problem
from sam_train.preprocessing import Preprocessing
from tests.data.samples import Squares

PROBLEM = Problem("unreadable file", Path("images/Error: odd; name.png"), "Error: cut short", "copy it anew")


class Broken(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise FileError(PROBLEM)


@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_problem_of_a_file_arrives_whole_from_a_loading_process(num_workers):
    with pytest.raises(FileError) as error:
        next(iter(BatchLoader(Broken(), num_workers=num_workers)))
    assert error.value.problem == PROBLEM
    assert str(error.value) == str(PROBLEM)


def test_batches_are_packed():
    views = Views(Squares(4), Preprocessing(image_size=64))
    batches = list(BatchLoader(views, 3, sampler=list(views.indices())))
    assert [len(batch.ids) for batch in batches] == [3, 1]
    assert batches[0].images.dtype == torch.uint8
