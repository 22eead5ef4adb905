"""Assembler and decoder: the only users of Keystone and Capstone."""
