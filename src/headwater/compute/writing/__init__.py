"""Rows given to `write` and keys given to `delete`: into the offline log, then online."""
