"""The event engine for development and small machines: a server in a child process."""
