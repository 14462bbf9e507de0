"""Find objects with an exported model; sam_train is not needed."""

import torch
from PIL import Image
from transformers import Sam2Model, Sam2Processor  # for SAM: SamModel, SamProcessor

model = Sam2Model.from_pretrained("polyp_sam")
processor = Sam2Processor.from_pretrained("polyp_sam")
image = Image.open("polyps/images/0.png").convert("RGB")
inputs = processor(images=image, input_boxes=[[[8, 6, 42, 26]]], return_tensors="pt")  # pixels of the image
with torch.no_grad():
    found = model(**inputs, multimask_output=False)
# For SAM, post_process_masks also takes inputs["reshaped_input_sizes"].
(masks,) = processor.post_process_masks(found.pred_masks, inputs["original_sizes"])
