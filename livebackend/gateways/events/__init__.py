"""Engines that hold the clients' connections and deliver live events to them."""
