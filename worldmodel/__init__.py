"""World model: planning in MuJoCo, skills and their orchestration."""
