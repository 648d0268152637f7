"""HTTP and JSON-RPC: the only place that knows the protocol. Delete it and every service still works."""
