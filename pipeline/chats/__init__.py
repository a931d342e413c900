"""The port to a model and what stands behind it: the SDKs, and the offline one."""
