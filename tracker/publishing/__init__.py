"""Copies of finished data elsewhere: which there are, what is in them, and the places that must not hold one."""
