"""What is printed: pure functions from results to lines."""
