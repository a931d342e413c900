"""What names mean, and what listings and comparisons show of the record."""
