"""Redis: standalone, with replicas, behind Sentinel, or a cluster."""
