"""What fine-tuning gained: the untuned and the tuned model on the same held-out prompts."""
