"""The record as MLflow's runs: what each says, its plots, and the one module that imports MLflow."""
