"""The registry's SQL database, shared with the offline log and the refresh queue: file, connections, transactions."""
