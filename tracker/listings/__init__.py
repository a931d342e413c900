"""What listings and comparisons show of the record."""
