"""How good a mask is: each metric a name, a direction and a number for each object."""

from sam_train.metrics.region import DICE, IOU

METRICS = (DICE, IOU)
"""Every metric of the package; a new one is a :class:`sam_train.metrics.base.Metric` and an entry here."""
