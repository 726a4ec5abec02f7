"""Image sources, overlays and track files for the offline commands."""
