"""Many perspectives on one input: agents under several conditions answer, with the same engine as everything else."""
