"""The HTTP server under load, beside Feast's."""
