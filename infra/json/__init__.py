"""JSON from callers, nodes and work: strict, bounded, and checked beside the event loop."""
