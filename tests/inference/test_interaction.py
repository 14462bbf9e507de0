"""Who is asked for three candidates: an object with one click and nothing else."""

import pytest
import torch

from sam_train.data.loading.collate import collate
from sam_train.data.loading.dataset import EvalDataset
from sam_train.inference.interaction import encode, interact
from sam_train.prompts.simulator import PromptSimulator, is_ambiguous
from tests.checkpoints.tiny import SAM2_CONFIG, build
from tests.data.samples import Squares


@pytest.mark.parametrize(
    "first", [{"box": 1}, {"point": 1}, {"center": 1}, {"mask": 1}, {"box": 1, "point": 1, "mask": 1}]
)
@torch.no_grad()
def test_candidates_are_asked_for_where_one_click_is_all_there_is(first):
    model = build(SAM2_CONFIG)
    source = EvalDataset(Squares(6), model.preprocessing, min_area=1)
    batch = collate([source[index] for index in range(6)])
    asked = []

    def decode(features, prompts, object_image, multimask):
        every = torch.as_tensor(multimask).expand(len(object_image))
        assert torch.equal(every, is_ambiguous(prompts))
        asked.append(every.any().item())
        return model.decode(features, prompts, object_image, multimask)

    simulator = PromptSimulator(**first, corrections=2)
    assert len(list(interact(decode, encode(model, batch), batch, simulator))) == 3
    assert asked == ["point" in first or "center" in first, False, False]
