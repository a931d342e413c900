"""From anything to what it came from and what became of it; and questions in SQL."""
