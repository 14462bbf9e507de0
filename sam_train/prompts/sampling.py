"""From masks to boxes, points and rough masks, all objects at once and without hidden randomness.

Coordinates are x, y of pixels in the frame of the masks given. What is random takes its uniform numbers as an argument.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import masks_to_boxes

BOX_NOISE_LIMIT = 20 / 1024  # of the input's side: 20 pixels of 1024 (Ravi et al., "SAM 2", 2024, appendix D.2)
ROUGH_LOGIT = 10.0  # logits of a mask given as a prompt: SAM 2 scales a sure mask to ±10 (sigmoid scale 20, bias -10)
ROUGH_CELLS = 8  # a rough mask is drawn with this many cells along the object's longer side


def jitter_boxes(
    boxes: Float[Tensor, "P 4"], noise: float, uniform: Float[Tensor, "P 4"], side: int
) -> Float[Tensor, "P 4"]:
    """Return boxes whose corners moved by up to ``noise`` of width and height, at most :data:`BOX_NOISE_LIMIT`.

    SAM 2's ``sample_box_points``; corners stay in a frame of this side.
    """
    extent = (boxes[:, 2:] - boxes[:, :2]) * noise
    reach = extent.clamp(max=BOX_NOISE_LIMIT * side).repeat(1, 2)
    return (boxes + (2 * uniform - 1) * reach).clamp(0, side - 1)


def random_points(masks: Bool[Tensor, "P h w"], uniform: Float[Tensor, "P"]) -> Float[Tensor, "P 2"]:
    """Return a pixel of each mask, every one equally likely; (0, 0) where the mask is empty."""
    row_ends = masks.sum(dim=2).cumsum(dim=1)
    total = row_ends[:, -1]
    # float32 may round u * total up to total itself
    rank = torch.minimum((uniform * total).long(), (total - 1).clamp(min=0))
    y = _first_above(row_ends, rank)
    rows = torch.arange(len(masks), device=masks.device)
    row = masks[rows, y]
    before = row_ends[rows, y] - row.sum(dim=1)
    x = _first_above(row.cumsum(dim=1), rank - before)
    return torch.stack([x, y], dim=1).float()


def _first_above(ends: Int[Tensor, "P n"], rank: Int[Tensor, "P"]) -> Int[Tensor, "P"]:
    return torch.searchsorted(ends, rank[:, None], right=True)[:, 0].clamp(max=ends.shape[1] - 1)


def squared_edge_distance(masks: Bool[Tensor, "P h w"]) -> Int[Tensor, "P h w"]:
    """Return the squared Euclidean distance of each pixel to the nearest pixel outside its mask or the frame.

    Exact and separable: along columns first, then along rows the lower envelope of parabolas (Felzenszwalb &
    Huttenlocher 2012), taken as a running minimum over offsets. A row is done once its largest distance is below the
    offset, so thin regions, which errors mostly are, cost a few offsets only.
    """
    width = masks.shape[2]
    x = torch.arange(width, dtype=torch.int32, device=masks.device)
    column = _squared_column_distance(masks)
    distance = torch.minimum(column, torch.minimum(x + 1, width - x).square())
    rows, columns = distance.view(-1, width), column.view(-1, width)
    offset, check_at = 1, 1
    where = torch.arange(len(rows), device=masks.device)
    some, their_columns = rows.clone(), columns
    while offset < width and len(where):
        if offset == check_at:  # at 1, 2, 4, 8, ...: this test costs as much as an offset
            unfinished = some.amax(dim=1) > offset * offset
            rows[where] = some
            where, some, their_columns = where[unfinished], some[unfinished], their_columns[unfinished]
            check_at *= 2
        torch.minimum(some[:, offset:], their_columns[:, :-offset] + offset * offset, out=some[:, offset:])
        torch.minimum(some[:, :-offset], their_columns[:, offset:] + offset * offset, out=some[:, :-offset])
        offset += 1
    rows[where] = some
    return distance


def _squared_column_distance(masks: Bool[Tensor, "P h w"]) -> Int[Tensor, "P h w"]:
    """Return the squared distance within each column; columns without a pixel of the mask, as most, are skipped."""
    height = masks.shape[1]
    columns = masks.transpose(1, 2)
    occupied = columns.any(dim=2)
    lines = columns[occupied]
    y = torch.arange(height, dtype=torch.int32, device=masks.device)
    above = torch.where(lines, -1, y).cummax(dim=1).values
    below = torch.where(lines, height, y).flip(1).cummin(dim=1).values.flip(1)
    squared = y.new_zeros(masks.shape)
    squared.transpose(1, 2)[occupied] = torch.minimum(y - above, below - y).square()
    return squared


def interior_points(masks: Bool[Tensor, "P h w"]) -> Float[Tensor, "P 2"]:
    """Return the pixel of each mask that is farthest from its edge, the first in reading order of several."""
    return _peak(squared_edge_distance(masks))[0]


def _peak(distance: Int[Tensor, "P h w"]) -> tuple[Float[Tensor, "P 2"], Int[Tensor, "P"]]:
    value, index = distance.flatten(1).max(dim=1)
    # max() may return any of several; the first is what a person can predict and OpenCV's callers take
    index = (distance.flatten(1) == value[:, None]).int().argmax(dim=1)
    width = distance.shape[2]
    return torch.stack([index % width, index // width], dim=1).float(), value


def error_centers(
    truth: Bool[Tensor, "P h w"], predicted: Bool[Tensor, "P h w"]
) -> tuple[Float[Tensor, "P 2"], Bool[Tensor, "P"]]:
    """Return the middle of each prediction's largest error, and whether object was missed there.

    SAM 2's ``sample_one_point_from_error_center``: the point deepest inside the missed or the wrongly taken region,
    whichever is deeper. A perfect prediction gives the corner (0, 0), background.
    """
    missed_at, missed_depth = _peak(squared_edge_distance(truth & ~predicted))
    taken_at, taken_depth = _peak(squared_edge_distance(predicted & ~truth))
    is_missed = missed_depth > taken_depth
    return torch.where(is_missed[:, None], missed_at, taken_at), is_missed


def random_error_points(
    truth: Bool[Tensor, "P h w"],
    predicted: Bool[Tensor, "P h w"],
    inside: Bool[Tensor, "P h w"],
    uniform: Float[Tensor, "P"],
) -> tuple[Float[Tensor, "P 2"], Bool[Tensor, "P"]]:
    """Return a pixel of each prediction's errors, every one equally likely, and whether object was missed there.

    SAM 2's ``sample_random_points_from_errors``: where there is no error, one of the background ``inside`` the image.
    """
    wrong = truth ^ predicted
    perfect = ~wrong.flatten(1).any(dim=1)
    points = random_points(torch.where(perfect[:, None, None], ~truth & inside, wrong), uniform)
    x, y = points.long().unbind(1)
    return points, truth[torch.arange(len(truth), device=truth.device), y, x] & ~perfect


def pixels_in_cells(
    cells: Float[Tensor, "P 2"],
    masks: Bool[Tensor, "P H W"],
    on_object: Bool[Tensor, "P"],
    stride: int,
    ignored: Bool[Tensor, "P H W"] | None = None,
) -> Float[Tensor, "P 2"]:
    """Return the pixel nearest to the middle of each grid cell of stride² pixels that is, or is not, on the object.

    So a click meets a line of one pixel, too. No pixel that is ``ignored`` is taken; where none is left, the first in
    reading order is.
    """
    if stride == 1:
        return cells
    offset = torch.arange(stride, device=masks.device)
    distance = (2 * offset - stride + 1).square()
    order = (distance[:, None] + distance) * stride**2 + torch.arange(stride**2, device=masks.device).view(stride, -1)
    x, y = (cells.long() * stride).unbind(dim=1)
    rows, columns = y[:, None, None] + offset[:, None], x[:, None, None] + offset
    places = torch.arange(len(masks), device=masks.device)[:, None, None], rows, columns
    is_wrong = masks[places] != on_object[:, None, None]
    if ignored is not None:
        is_wrong |= ignored[places]
    rank = order + is_wrong * 4 * stride**4  # beyond all that are right
    chosen = rank.flatten(1).argmin(dim=1)
    return torch.stack([x + chosen % stride, y + chosen // stride], dim=1).float()


def rough_masks(masks: Bool[Tensor, "P h w"], side: int) -> Float[Tensor, "P 1 side side"]:
    """Return logits of the masks as drawn with a broad brush: right in place and extent, wrong along the edge.

    Coverage of cells an eighth of the object's size, interpolated, scaled to ± :data:`ROUGH_LOGIT`.
    """
    boxes = masks_to_boxes(masks) * (side / masks.shape[-1])
    extent = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1)
    fine = F.interpolate(masks[:, None].float(), (side, side), mode="area")
    # One averaging per size class of object, with kernels of 1, 3, 5, ... cells.
    size_class = (extent / ROUGH_CELLS / 2).round().clamp(0, 8).long()
    coverage = torch.empty_like(fine)
    for radius in size_class.unique().tolist():
        of_class = size_class == radius
        coverage[of_class] = F.avg_pool2d(fine[of_class], 2 * radius + 1, stride=1, padding=radius)
    return (2 * coverage - 1) * ROUGH_LOGIT
