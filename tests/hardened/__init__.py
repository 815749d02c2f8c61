"""Bad input, abuse and faults: each is one case, and does no harm to what comes after."""
