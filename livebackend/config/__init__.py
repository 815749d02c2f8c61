"""Settings and configuration errors."""
