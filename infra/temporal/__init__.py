"""The gateway to Temporal, access to it, and the notifications that workflows get after a commit."""
