"""Images in order: videos, folders of images, rosbag2 files and cameras, all as RGB frames with stamps."""
