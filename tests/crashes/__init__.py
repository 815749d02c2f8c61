"""Kills a server at each step of a call that moves coins, and counts what a client ends with."""
