"""The HTTP door: requests to what the floors below do, and their answers and errors to HTTP. Loaded on first use."""
