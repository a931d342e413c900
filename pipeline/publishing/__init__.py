"""Finished data copied or linked to where other programs look for it."""
