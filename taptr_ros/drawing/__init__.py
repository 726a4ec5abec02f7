"""Tracks drawn on images."""
