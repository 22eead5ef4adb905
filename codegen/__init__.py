"""The machine's side: bytes in, bytes out; it knows no Task."""
