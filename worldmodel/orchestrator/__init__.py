"""The skill orchestrator: which skill runs next, decided by rehearsing the candidates in MuJoCo."""
