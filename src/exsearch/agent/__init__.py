"""The search agent: grammar, trajectory, rollout."""
