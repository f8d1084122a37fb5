"""`gpu-orchestrator verify`: whether what must hold does hold, in Postgres, in Temporal and in the nodes' logs."""
