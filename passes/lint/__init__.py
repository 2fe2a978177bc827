"""The lint: findings about gradient flow, as pure functions over evidence."""
