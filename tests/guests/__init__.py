"""Small C programs, one group of behaviour each: run on Linux first, then by ddock.

Each writes a transcript that is the same on every Linux; `expected/` holds it, and the first test
checks it against the machine's own kernel. A program is built four ways, because libcs and
linkage decide which system calls are made and from where.
"""
