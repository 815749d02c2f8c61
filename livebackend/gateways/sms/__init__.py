"""Text messages: the protocol, and Qiniu's SMS service."""
