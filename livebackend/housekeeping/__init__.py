"""Housekeeping: periodic background tasks, run by one worker at a time."""
