"""Virtual signals: dispositions, masks and pending sets, sending, and delivery as guest frames."""
