"""Training: configuration, the step, the trainer and what it reports."""
