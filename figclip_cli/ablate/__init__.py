"""A grid of adaptations with what each costs beside what it brings; one table and one chart for each question."""
