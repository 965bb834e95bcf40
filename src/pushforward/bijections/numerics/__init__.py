"""What bijections compute with: roots, reflections, bounded slopes, checks of shapes."""
