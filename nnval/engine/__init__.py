"""The ensemble trainer: many small networks trained at once, each a crash-safe run of its own."""
