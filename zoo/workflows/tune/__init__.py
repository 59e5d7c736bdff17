"""`zoo tune`: a search over recipe fields."""
