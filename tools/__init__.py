"""Code generators of this repository. No distribution includes them."""
