"""Acceptance tests on a real AWS account, or on the embedded cloud: `scripts/live`, docs/live.md."""
