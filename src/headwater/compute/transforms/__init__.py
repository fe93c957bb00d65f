"""Functions kept as source text: compiled, given columns in their mode, and what they return checked."""
