"""Example configurations and the sample data set, shipped so that `synthtrack init` can lay them out."""
