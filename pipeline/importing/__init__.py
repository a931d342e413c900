"""Brings in what was made elsewhere: a tree of the older layout, its training results, finished data sets."""
