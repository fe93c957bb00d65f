"""The refresh queue: requests that wait for workers, and what refreshes came to; tables beside the registry."""
