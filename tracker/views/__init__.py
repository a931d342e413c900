"""The trees that follow from the record: planned by pure functions, written by one."""
