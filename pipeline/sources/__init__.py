"""Original data sets: files, the hub, and what the record holds."""
