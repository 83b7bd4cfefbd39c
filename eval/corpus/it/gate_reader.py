"""Driver of the ticket readers at the gates, model QX-550."""

BAUD_RATE = 38400
RETRY_SECONDS = 4
BEEPS = {"valid": 1, "used": 2, "unknown": 3}


class GateReader:
    """Reads the code of a ticket. Two beeps say that the ticket was used before."""

    def __init__(self, port: str) -> None:
        self.port = port

    def reset(self) -> None:
        """Hold the grey button for six seconds; the reader then asks for its gate's letter."""
