"""Training: synthetic scenes, losses, and the loop."""
