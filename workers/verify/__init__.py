"""`gpu-orchestrator verify`: check the invariants in Postgres, in Temporal and in the nodes' logs."""
