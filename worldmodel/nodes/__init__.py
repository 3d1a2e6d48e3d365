"""ROS 2 node of the orchestrator."""
