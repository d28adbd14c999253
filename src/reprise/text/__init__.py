"""Text for people: numbers, tables, Markdown, and did-you-mean."""
