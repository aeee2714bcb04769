"""Training of pair models: helpers of the training loop, losses, mining and resuming."""
