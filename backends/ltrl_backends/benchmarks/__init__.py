"""The built-in benchmarks, one module each; `records` reads their files."""
