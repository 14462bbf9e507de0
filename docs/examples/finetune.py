"""Fine-tune on a folder of images and masks, see what it gained, use the model and take it elsewhere."""

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
from sam_train.runs.opening import open_predictor

predictor = open_predictor("runs/polyps")  # or weights of Meta or Hugging Face, or the name of a preset
predictor.set_image("polyps/images/0.png")  # or an image of Pillow, an array, a tensor
found = predictor.predict(boxes=[[8, 6, 42, 26]])  # x0, y0, x1, y1 in pixels of the image
masks = found.masks[:, 0].cpu()  # (boxes, height, width)
# --8<-- [end:predict]

# --8<-- [start:export]
from sam_train.checkpoints import save_checkpoint
from sam_train.tuning.lora import merged_state_dict

save_checkpoint(model, "polyp_sam", "huggingface", merged_state_dict(model))
# --8<-- [end:export]
