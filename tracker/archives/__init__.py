"""Rows and files that belong together, as one file: written, read with distrust, put in by natural keys."""
