"""Find objects with a SAM 2 that was exported as ONNX; neither sam_train nor PyTorch is needed."""

import numpy as np
from onnxruntime import InferenceSession
from PIL import Image

encoder, decoder = (InferenceSession(f"polyp_onnx/{name}.onnx") for name in ("encoder", "decoder"))
side = encoder.get_inputs()[0].shape[-1]
image = Image.open("polyps/images/0.png").convert("RGB")
pixels = np.asarray(image.resize((side, side)), np.float32)
pixels = (pixels - (123.675, 116.28, 103.53)) / (58.395, 57.12, 57.375)
finest, finer, embedding = encoder.run(None, {"image": pixels.transpose(2, 0, 1)[None].astype(np.float32)})
box = np.array([[[8, 6], [42, 26]]], np.float32) * (side / np.array(image.size, np.float32))
prompt = {"point_coords": box, "point_labels": np.array([[2, 3]], np.float32)}  # of a click: 1; of background: 0
no_mask = {"mask_input": np.zeros((1, 1, side // 4, side // 4), np.float32), "has_mask_input": np.zeros(1, np.float32)}
seen = {"image_embed": embedding, "high_res_feats_0": finest, "high_res_feats_1": finer}
logits, iou = map(np.asarray, decoder.run(None, seen | prompt | no_mask))
best = logits[0, iou[0].argmax()]
mask = np.asarray(Image.fromarray(best).resize(image.size)) > 0
