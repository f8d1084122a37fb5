"""Events in memory: one reader of the log for each process, and those who follow it."""
