"""What a PyTorch user attaches to their own training loop, one tool per module."""
