"""Transfers of coins: posting, history, reversals, checkpoints, audit."""
