"""The gateway to Temporal, access to it, and how workflows are notified."""
