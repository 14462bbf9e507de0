"""How good a mask is: each metric a name, a direction and a number for each object."""

from sam_train.metrics.boundary import BOUNDARY_IOU, HD95, NSD
from sam_train.metrics.region import DICE, IOU

METRICS = (DICE, IOU, BOUNDARY_IOU, NSD, HD95)
"""Every metric of the package; a new one is a :class:`sam_train.metrics.base.Metric` and an entry here."""
