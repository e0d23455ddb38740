"""What one training run leaves on the disk."""
