"""Tables for operators: alerts, counts, instances."""
