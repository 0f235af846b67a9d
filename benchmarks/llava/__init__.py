"""What `bench vlm` measures: a model of LLaVA's shape with random weights, ways to run it, a reference in float64."""
