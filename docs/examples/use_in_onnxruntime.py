"""Find an object with a SAM 2 that was exported as ONNX; neither sam_train nor PyTorch is needed."""

import numpy as np
from onnxruntime import InferenceSession
from PIL import Image

encoder, decoder = (InferenceSession(f"polyp_onnx/{name}.onnx") for name in ("encoder", "decoder"))
image, side = Image.open("polyps/images/0.png").convert("RGB"), encoder.get_inputs()[0].shape[-1]
pixels = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), np.float32)
pixels = (pixels - (123.675, 116.28, 103.53)) / (58.395, 57.12, 57.375)
features = encoder.run(None, {"image": pixels.transpose(2, 0, 1)[None].astype(np.float32)})
box = np.array([[[8, 6], [42, 26]]], np.float32) * (side / np.array(image.size, np.float32))
given = [features[2], *features[:2], box, np.array([[2, 3]], np.float32)]  # label of a click: 1; of background: 0
given += [np.zeros((1, 1, side // 4, side // 4), np.float32), np.zeros(1, np.float32)]  # no mask as a prompt
names = [one.name for one in decoder.get_inputs()]
logits, iou = map(np.asarray, decoder.run(None, dict(zip(names, given, strict=True))))
mask = np.asarray(Image.fromarray(logits[0, iou[0].argmax()]).resize(image.size, Image.Resampling.BILINEAR)) > 0
