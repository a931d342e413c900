"""Copies of the whole record, made while others write, and put back."""
