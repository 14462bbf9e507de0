"""Masks of everything in an image: a grid of clicks, and of all that they find what is good, stable and distinct.

The automatic mask generation of SAM (Kirillov et al. 2023, appendix B) and SAM 2, with the same results, for every
promptable model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from sam_train.inference.found_masks import FoundMasks
from sam_train.inference.images import EncodedImages, ImageLike, encode_pixels
from sam_train.inference.mask_filters import above, is_cut_off, mask_boxes, stability_scores
from sam_train.inference.point_grids import Crop, crop_boxes, layer_grids
from sam_train.inference.predictor import Predictor
from sam_train.inference.regions import clean_logits, remove_small_regions
from sam_train.inference.run_lengths import RunLengths
from sam_train.limits import check_limits
from sam_train.structures import MaskPrediction, PointLabel, Prompts

# Of logits at the original size, 16 MB, which stay in the caches; one mask's at least. It changes no result.
PIXELS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Everything:
    """How all masks of an image are looked for.

    Attributes:
        points_per_side: Of the grid of clicks.
        points_per_batch: Clicks decoded at once, which bounds memory.
        pred_iou_thresh: Masks of a lower estimated IoU are dropped; 0 or less drops none.
        stability_score_thresh: Masks of a lower stability are dropped; 0 or less drops none.
        stability_score_offset: How far the threshold is moved up and down to see how stable a mask is.
        mask_threshold: Logits above it are inside.
        box_nms_thresh: Of masks whose boxes overlap by more than this IoU the best by estimated IoU stays.
        crop_n_layers: How often the image is cut in four, beyond being looked at whole: for small objects.
        crop_nms_thresh: As ``box_nms_thresh``, for masks of different crops; those of smaller crops stay.
        crop_overlap_ratio: How much crops of the first layer overlap, as a share of the image's shorter side.
        crop_n_points_downscale_factor: How many times fewer points per side each further layer has.
        min_mask_region_area: Holes and islands of fewer pixels are removed; 0 for none.
        multimask_output: Whether a click gives three candidates, or one.
        use_m2m: Whether each mask is refined once more by its own logits, as SAM 2 can.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.8
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    mask_threshold: float = 0.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0
    multimask_output: bool = True
    use_m2m: bool = False

    def __post_init__(self) -> None:
        check_limits("grid", vars(self))

    def hint(self, part: str) -> str | None:
        """Return what to say where too little is found, if thresholds may be why.

        Those of the original systems are too strict for small models, which are less sure of themselves.

        Args:
            part: Of the settings that these are, as a person names them.
        """
        if self.pred_iou_thresh <= 0.5 and self.stability_score_thresh <= 0.8:
            return None
        names = (f"{part}.pred_iou_thresh", f"{part}.stability_score_thresh")
        now = f"{names[0]}={self.pred_iou_thresh} {names[1]}={self.stability_score_thresh}"
        return f"hint: {now} leave out masks that a small model is not sure of; 0.5 and 0.8 keep more"


class MaskGenerator:
    """Finds all masks of images.

    Args:
        predictor: With the model. Its cleaning of holes and specks holds for the masks' logits, too.
        settings: How masks are looked for.
    """

    def __init__(self, predictor: Predictor, settings: Everything | None = None) -> None:
        self.predictor = predictor
        self.settings = settings or Everything()
        self._cleaning = replace(predictor.cleaning, threshold=self.settings.mask_threshold, non_overlapping=False)

    def generate(self, image: ImageLike) -> FoundMasks:
        """Return all masks of an image.

        Raises:
            InputError: If it is no image.
        """
        return self.find(self.predictor.read(image))

    @torch.no_grad()
    def find(self, pixels: UInt8[Tensor, "3 h w"]) -> FoundMasks:
        """Return all masks of an image that was read."""
        settings, size = self.settings, (pixels.shape[1], pixels.shape[2])
        every = crop_boxes(size, settings.crop_n_layers, settings.crop_overlap_ratio)
        crops = [crop for crop in every if min(crop.size) > 0]  # of an image of a few pixels some are nothing
        parts = [self._in_crop(pixels, crop) for crop in crops]
        found = FoundMasks.cat([part for part in parts if len(part)] or parts[:1])
        if len(crops) > 1:
            sides = found.crops[:, 2:] - found.crops[:, :2]
            found = found.distinct(settings.crop_nms_thresh, 1 / sides.prod(dim=1))
        return self._without_small_regions(found) if settings.min_mask_region_area > 0 else found

    def _in_crop(self, pixels: UInt8[Tensor, "3 H W"], crop: Crop) -> FoundMasks:
        x0, y0, x1, y1 = crop.box
        settings, (height, width) = self.settings, crop.size
        image = encode_pixels(self.predictor.model, [pixels[:, y0:y1, x0:x1]])
        grids = layer_grids(settings.points_per_side, settings.crop_n_layers, settings.crop_n_points_downscale_factor)
        points = torch.from_numpy(grids[crop.layer]) * torch.tensor([width, height])
        size = pixels.shape[1], pixels.shape[2]
        parts = [
            part
            for some in points.split(settings.points_per_batch)
            for part in self._by_points(image, some, crop, size)
            if len(part)
        ]
        return FoundMasks.cat(parts).distinct(settings.box_nms_thresh) if parts else FoundMasks.none(size)

    def _by_points(
        self, image: EncodedImages, points: Float[Tensor, "N 2"], crop: Crop, size: tuple[int, int]
    ) -> Iterator[FoundMasks]:
        """Yield the good and stable masks that some clicks find."""
        settings = self.settings
        found = self._decode(image, points, settings.multimask_output)
        points = points.repeat_interleave(found.logits.shape[1], dim=0)
        if settings.use_m2m:
            found = self._refined(image, points, found.logits.flatten(0, 1)[:, None])
        logits, iou = found.logits.flatten(0, 1)[:, None], found.iou.flatten()
        if settings.pred_iou_thresh > 0:  # before anything is resized
            good = (iou > settings.pred_iou_thresh).nonzero()[:, 0]
            logits, iou, points = logits[good], iou[good], points[good.cpu()]
        at_once = max(PIXELS_AT_ONCE // (crop.size[0] * crop.size[1]), 1)
        for some, some_iou, clicks in zip(*(each.split(at_once) for each in (logits, iou, points)), strict=True):
            if len(some):
                yield self._stable(some, some_iou.cpu(), clicks, crop, size)

    def _decode(
        self,
        image: EncodedImages,
        points: Float[Tensor, "N 2"],
        multimask: bool,
        masks: Float[Tensor, "N 1 h w"] | None = None,
    ) -> MaskPrediction:
        """Decode each click on its own."""
        places = self.predictor.model.preprocessing.scale_points(points[:, None], image.sizes[0])
        labels = torch.full((len(points), 1), PointLabel.OBJECT)
        object_image = torch.zeros(len(points), dtype=torch.long)
        return self.predictor.decode(image, Prompts(places, labels, masks), object_image, multimask)

    def _refined(
        self, image: EncodedImages, points: Float[Tensor, "n 2"], logits: Float[Tensor, "n 1 h w"]
    ) -> MaskPrediction:
        """Decode each candidate again, with its own mask beside its click."""
        at_once, limit = self.settings.points_per_batch, self.predictor.model.logit_limit
        pairs = zip(points.split(at_once), logits.clamp(-limit, limit).split(at_once), strict=True)
        found = [self._decode(image, clicks, False, masks) for clicks, masks in pairs]
        return MaskPrediction(torch.cat([part.logits for part in found]), torch.cat([part.iou for part in found]))

    def _stable(
        self,
        logits: Float[Tensor, "n 1 h w"],
        iou: Float[Tensor, "n"],
        points: Float[Tensor, "n 2"],
        crop: Crop,
        size: tuple[int, int],
    ) -> FoundMasks:
        """Return the masks that are stable and not cut off by the crop, in the frame of the image."""
        settings = self.settings
        cleaned = clean_logits(logits.float(), self._cleaning)
        full = self.predictor.model.preprocessing.restore_logits(cleaned, crop.size)[:, 0]
        stability = stability_scores(full, settings.mask_threshold, settings.stability_score_offset)
        kept = torch.arange(len(full), device=full.device)
        if settings.stability_score_thresh > 0:
            kept = (stability >= settings.stability_score_thresh).nonzero()[:, 0]
        masks = above(full[kept], settings.mask_threshold)
        x0, y0, *_ = crop.box
        boxes = mask_boxes(masks) + torch.tensor([x0, y0, x0, y0], device=masks.device)
        whole = (~is_cut_off(boxes, crop.box, size)).nonzero()[:, 0]
        kept = kept[whole]
        runs = RunLengths.of(masks[whole], size, (y0, x0))
        offset = torch.tensor([x0, y0])
        at = kept.cpu()
        crops = torch.tensor(crop.box).expand(len(at), 4)
        return FoundMasks(runs, boxes[whole].cpu(), iou[at], stability[kept].cpu(), points[at] + offset, crops)

    def _without_small_regions(self, found: FoundMasks) -> FoundMasks:
        """Remove small holes and islands, and then masks that became much like another; unchanged masks come first."""
        height, width = found.masks.size
        changed, parts, boxes = [], [], []
        for some in torch.arange(len(found)).split(max(PIXELS_AT_ONCE // (height * width), 1)):
            masks = found.masks.select(some.numpy()).masks()
            cleaned = remove_small_regions(masks, self.settings.min_mask_region_area)
            changed.append((cleaned != masks).flatten(1).any(dim=1))
            parts.append(RunLengths.of(cleaned))
            boxes.append(mask_boxes(cleaned))
        if not parts:
            return found
        cleaned = replace(found, masks=RunLengths.cat(parts), boxes=torch.cat(boxes))
        threshold = max(self.settings.box_nms_thresh, self.settings.crop_nms_thresh)
        return cleaned.distinct(threshold, (~torch.cat(changed)).float())
