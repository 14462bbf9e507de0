"""SAM: image encoder, mask decoder and the two together."""
