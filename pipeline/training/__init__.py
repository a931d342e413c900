"""Stage 2: small models, trained on a data set and measured on its validation split."""
