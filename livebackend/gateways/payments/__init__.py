"""Payment gateways: the protocol and WeChat Pay."""
