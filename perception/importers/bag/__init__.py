"""Bags: rosbag2 folders (sqlite3 or MCAP) and MCAP files of others, read as messages with RGB-D cameras in them."""
