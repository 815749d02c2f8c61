"""SMS gateways: the protocol and Qiniu's SMS service."""
