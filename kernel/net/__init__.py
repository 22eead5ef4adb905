"""A container's network: real host sockets behind private addresses.

Sockets are made here and handed to the guest; whatever names an address comes back here and is
translated (`plan` says how). Bytes through connected sockets never do.
"""
