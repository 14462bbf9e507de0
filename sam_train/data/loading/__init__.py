"""From samples to batches: views, augmentation, order, packing."""
