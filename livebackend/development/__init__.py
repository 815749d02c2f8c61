"""Development gateways and the embedded PostgreSQL."""
