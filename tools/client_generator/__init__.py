"""Sources of the generated modules of the Python client, one module here for each of them."""
