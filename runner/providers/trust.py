"""Whose certificates are believed."""

import ssl
from pathlib import Path

from runner.errors import ProviderError


def trusting(ca_file: str) -> ssl.SSLContext:
    """TLS for a client: the system's authorities, and those of a PEM file if one is named.

    Raises:
        ProviderError: the file cannot be read.
    """
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(Path(ca_file).expanduser())
        except OSError as error:  # also what is no certificate
            raise ProviderError(
                f"llm.ca_file={ca_file} cannot be read: {error.strerror or 'no certificate'}. "
                "Give the path of a PEM file, or leave it empty."
            ) from None
    return context
