"""Connections and transactions, prepared statements, leases, migrations."""
