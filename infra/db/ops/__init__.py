"""Tables for operators: alerts, audit, keys, counts, instances."""
