"""Peers: other feature stores on the same data and the same servers, each in an environment of its own."""
