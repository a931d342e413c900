"""What is not as it was recorded, and what mends it."""
