"""Where records go: the journal or lines, the audit log's file, and nothing secret in either."""
