"""Fine-tune Segment Anything on your own images and masks, and see what it gained."""
