"""Speed against the same binary run natively in the same run."""
