"""JSON from callers, nodes and work: strict, bounded, and checked off the event loop."""
