"""Who may call: keys, callers, sessions of the console, the audit log."""
