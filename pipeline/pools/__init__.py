"""Benchmark task pools: difficulty from the full data, and mixed streams of easy and hard tasks."""
