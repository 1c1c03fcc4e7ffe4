"""How good a model is: benchmarks asked of an endpoint, graded, and compared with confidence intervals."""
