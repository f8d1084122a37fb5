"""What operators need: alerts, audit, keys, counts, instances."""
