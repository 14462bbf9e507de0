"""SAM 2 and 2.1: image encoder, mask decoder and the two together."""
