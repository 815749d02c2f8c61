"""Tests of invalid input, abuse and failures with the settings of production.ini."""
