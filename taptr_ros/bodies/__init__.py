"""Points in metres and rigid bodies: cameras, depth images, and the motion of groups of points. NumPy and OpenCV only."""
