"""From keys to a result: the plan of a read, its statuses, its columns."""
