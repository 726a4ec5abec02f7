"""The page in a browser, its server, and what they ask of whoever has images and tracks to show."""
