"""What this machine computes with: its devices, and its memory."""
