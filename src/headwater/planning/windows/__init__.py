"""Windows of events: their rule, the aggregates over them, and the lists of aggregates that a version keeps."""
