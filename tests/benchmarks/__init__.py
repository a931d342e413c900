"""Each benchmark runs, at sizes that take seconds."""
