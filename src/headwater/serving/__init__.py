"""The HTTP server: reads, writes and lists of a store for services in any language."""
