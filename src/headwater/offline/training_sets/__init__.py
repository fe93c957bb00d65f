"""Training sets on disk: a folder for each version, with the rows as Parquet and a manifest of what made them."""
