"""What was made, from which settings, and where it is."""
