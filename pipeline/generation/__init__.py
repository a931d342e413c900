"""Synthetic data sets: what is asked and what an answer means, from config to finished experiment."""
