"""What is not as it was recorded, what mends it, and copies of the database."""
