"""What every other package can use: errors, signing, request context. It imports none of them."""
