"""What an event is in Python: the fields of its class, how it is built, the errors that name a path in it."""
