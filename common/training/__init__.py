"""How a pair model is trained: helpers of the loop, losses, mining and resuming."""
