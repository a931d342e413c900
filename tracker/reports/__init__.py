"""What a batch or a purpose came to: tables and curves over results."""
