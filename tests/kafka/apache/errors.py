"""What can go wrong with a test broker."""


class ApacheKafkaError(RuntimeError):
    """Brokers could not be brought, started or asked; the message says why, and what they logged last."""


class MissingToolError(ApacheKafkaError):
    """Java or Maven is not installed; the message says what to install."""
