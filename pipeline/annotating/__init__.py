"""People's decisions at the checkpoints."""
