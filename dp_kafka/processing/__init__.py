"""What wraps a handler: the chain itself, and one module for each wrapper."""
