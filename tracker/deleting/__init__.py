"""What would go, what forbids it, the trash, and the way back."""
