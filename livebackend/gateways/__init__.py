"""Outside services, each behind a protocol: SMS, streams, payments."""
