"""Points in metres and rigid bodies: cameras, depth images, the motion of groups of points. NumPy and OpenCV only."""
