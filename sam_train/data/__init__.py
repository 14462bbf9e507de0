"""Images and masks on their way to a batch."""
