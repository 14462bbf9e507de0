"""Fine-tune on a folder of images and masks, see what it gained, use the model and take it elsewhere."""

from pathlib import Path

import torch
import torch.nn.functional as F

# --8<-- [start:train]
from sam_train.data.sources.folder import FolderSource
from sam_train.runs.evaluate import evaluate
from sam_train.runs.fit import fit
from sam_train.runs.settings import ModelChoice, Settings
from sam_train.tuning.surgery import Tuning

STEPS = 200

settings = Settings(
    data=FolderSource("polyps"),  # polyps/images, polyps/masks
    model=ModelChoice("sam2_nano"),  # or any preset with weights="path or hub id"
    tuning=Tuning("lora", rank=32),
    trainer={"max_steps": STEPS},  # arguments of lightning.Trainer
)
run = fit(settings, "runs/polyps")
report = evaluate(run)
for prompt in report.tuned:
    print(f"{prompt}: IoU {report.untuned[prompt]['iou']:.3f} -> {report.tuned[prompt]['iou']:.3f}")
# --8<-- [end:train]

# --8<-- [start:load]
from sam_train.runs.run import Run

run = Run.load("runs/polyps")  # the folder, or one of its .ckpt files; nothing in them is executed
untuned, model = run.untuned(), run.tuned()  # plain torch.nn.Modules in evaluation mode
# --8<-- [end:load]

# --8<-- [start:predict]
from sam_train.data.loading.transforms import resize_image
from sam_train.data.sources.image_files import read_image
from sam_train.structures import Prompts

image = read_image(Path("polyps/images/0.png"))  # (3, height, width), 8-bit RGB
height, width = image.shape[1:]
boxes = torch.tensor([[8.0, 6.0, 42.0, 26.0]])  # x0, y0, x1, y1 in pixels of the image

preprocessing = model.preprocessing
resized = resize_image(image, preprocessing).float()
valid_size = torch.tensor([resized.shape[1:]])
side = preprocessing.image_size
padded = F.pad(resized, (0, side - resized.shape[2], 0, side - resized.shape[1]))[None]
with torch.no_grad():
    features = model.encode_image(preprocessing.normalize(padded, valid_size))  # once per image
    corners = preprocessing.scale_points(boxes.view(-1, 2, 2), (height, width))
    object_image = torch.zeros(len(boxes), dtype=torch.long)  # all boxes are on image 0
    found = model.predict(features, Prompts.from_boxes(corners.flatten(1)), object_image, multimask=False)
masks = preprocessing.restore_logits(found.logits, (height, width))[:, 0] > 0  # (boxes, height, width)
# --8<-- [end:predict]

# --8<-- [start:export]
from sam_train.checkpoints import save_checkpoint
from sam_train.tuning.lora import merged_state_dict

save_checkpoint(model, "polyp_sam", "huggingface", merged_state_dict(model))
# --8<-- [end:export]
