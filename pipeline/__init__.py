"""Makes data and models, and records them through the tracker."""
