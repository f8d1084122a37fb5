"""Takes the histories that `test_replay` replays from the real Temporal."""
