"""How a pair model is trained: the loop's mechanics, losses, mining, resuming."""
