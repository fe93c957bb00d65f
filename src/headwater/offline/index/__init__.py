"""Indexes of sources that are kept from one training set to the next."""
