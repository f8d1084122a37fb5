"""`gpu-orchestrator demo`: real work on the embedded stack, one node killed on the way, and nothing lost."""
