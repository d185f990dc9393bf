"""The replication machines: the primary, the secondary and the resync planner. Calls in, effects out."""
