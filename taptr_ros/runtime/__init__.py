"""Backends that run the network's three functions, export, and model files."""
