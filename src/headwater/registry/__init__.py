"""Registry: the only room that writes metadata: definitions, versions, leases."""
