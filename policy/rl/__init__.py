"""Reinforcement learning: rollouts, advantages, PPO and its runner."""
